// Hadoop's S3A: trees by the shell, streams in parts, renames, and files that many create on a condition.
//
// Sends the folder `up` and brings it back as `down`; hadoop.py compares them.

import java.io.FileNotFoundException;
import java.net.URI;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileRange;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.FsShell;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.s3a.RemoteFileChangedException;
import org.apache.hadoop.io.IOUtils;
import org.apache.hadoop.util.ToolRunner;

public class Hadoop {
  static final String BUCKET = "s3a://hadoop-round";
  static final int WRITERS = 8;
  static final Configuration settings = new Configuration();
  static FileSystem fs;

  static void same(Object left, Object right, String what) {
    if (!left.equals(right)) throw new AssertionError(what + ": " + left + " is not " + right);
  }

  static Path at(String name) {
    return new Path(BUCKET + "/" + name);
  }

  static void shell(String... words) throws Exception {
    same(ToolRunner.run(settings, new FsShell(), words), 0, String.join(" ", words));
  }

  static byte[] read(Path path) throws Exception {
    try (var stream = fs.open(path)) {
      return stream.readAllBytes();
    }
  }

  static void tree() throws Exception {
    shell("-mkdir", BUCKET + "/tree");
    shell("-put", "up/many", "up/folder", "up/plain.txt", "up/with space and +plus.txt", "up/ümläut-日本.txt", BUCKET + "/tree");
    shell("-get", BUCKET + "/tree", "down");
    shell("-ls", "-R", BUCKET + "/tree");
    shell("-mv", BUCKET + "/tree/many", BUCKET + "/tree/moved");
    shell("-test", "-d", BUCKET + "/tree/moved");
    shell("-rm", "-r", "-skipTrash", BUCKET + "/tree");
    same(fs.exists(at("tree/moved")), false, "the tree after rm");
  }

  static void streams() throws Exception {
    var big = new byte[17_000_001];
    new Random(1).nextBytes(big);
    fs.mkdirs(at("a/b"));
    try (var stream = fs.create(at("a/b/big"))) {
      for (int from = 0; from < big.length; from += 1_000_000) {
        stream.write(big, from, Math.min(1_000_000, big.length - from));
      }
    }
    same(fs.getFileStatus(at("a/b/big")).getLen(), (long) big.length, "size");
    same(Arrays.equals(read(at("a/b/big")), big), true, "big");
    try (var stream = fs.open(at("a/b/big"))) {
      var part = new byte[100];
      stream.readFully(12_345_678, part);
      same(Arrays.equals(part, Arrays.copyOfRange(big, 12_345_678, 12_345_778)), true, "a range");
      var ranges = List.of(FileRange.createFileRange(7, 10), FileRange.createFileRange(9_000_000, 10));
      stream.readVectored(ranges, ByteBuffer::allocate);
      for (var range : ranges) {
        var found = new byte[10];
        range.getData().get().get(found);
        var from = (int) range.getOffset();
        same(Arrays.equals(found, Arrays.copyOfRange(big, from, from + 10)), true, "ranges");
      }
    }
    same(fs.rename(at("a/b"), at("a/c")), true, "renamed");
    same(fs.exists(at("a/b/big")), false, "the old name");
    same(Arrays.equals(read(at("a/c/big")), big), true, "the new name");
    same(fs.listStatus(at("a")).length, 1, "listed");
    try {
      fs.open(at("not-there")).close();
      throw new AssertionError("read what is not there");
    } catch (FileNotFoundException expected) {
    }
  }

  /** Many write one file that may not be there yet, in one request and in parts. */
  static void conditions() throws Exception {
    var threads = Executors.newFixedThreadPool(WRITERS);
    for (int size : new int[] {1_000, 6_000_000}) {
      var path = at("race" + size);
      var calls = new ArrayList<Callable<Boolean>>();
      for (int n = 0; n < WRITERS; n++) {
        var body = new byte[size];
        Arrays.fill(body, (byte) n);
        calls.add(
            () -> {
              var builder = fs.createFile(path).overwrite(false).must("fs.option.create.conditional.overwrite", true);
              try (var stream = (FSDataOutputStream) builder.build()) {
                stream.write(body);
              } catch (FileAlreadyExistsException | RemoteFileChangedException late) {
                return false;
              }
              return true;
            });
      }
      var won = new ArrayList<Integer>();
      var told = threads.invokeAll(calls);
      for (int n = 0; n < WRITERS; n++) if (told.get(n).get()) won.add(n);
      same(won.size(), 1, "winners");
      var body = read(path);
      same(body.length, size, "size of the winner's");
      for (byte one : body) same((int) one, won.get(0), "the winner's body");
    }
    threads.shutdown();
  }

  public static void main(String[] arguments) throws Exception {
    settings.set("fs.s3a.endpoint", System.getenv("ENDPOINT"));
    settings.set("fs.s3a.multipart.size", "5M");
    fs = FileSystem.get(URI.create(BUCKET), settings);
    tree();
    streams();
    conditions();
    for (var status : fs.listStatus(new Path(BUCKET + "/"))) same(fs.delete(status.getPath(), true), true, "deleted");
    same(fs.listStatus(new Path(BUCKET + "/")).length, 0, "left");
    IOUtils.closeStream(fs);
  }
}
