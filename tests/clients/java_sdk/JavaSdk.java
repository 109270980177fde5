// The round of AWS's SDK for Java: the client that waits and the one that doesn't, the transfer manager
// and links. No option but the endpoint.
//
// Sends the folder `up` and brings it back as `down`; java_sdk.py compares them.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.AsyncResponseTransformer;
import software.amazon.awssdk.core.async.BlockingInputStreamAsyncRequestBody;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.ContentStreamProvider;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.*;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.transfer.s3.S3TransferManager;

public class JavaSdk {
  static final String BUCKET = "java-sdk-round";
  static final URI ENDPOINT = URI.create(System.getenv("ENDPOINT"));
  static final int WRITERS = 8;
  static final int ADDS = 10;
  static final S3Client s3 = S3Client.builder().endpointOverride(ENDPOINT).build();
  static final S3AsyncClient async =
      S3AsyncClient.builder().endpointOverride(ENDPOINT).multipartEnabled(true).build();

  static void same(Object left, Object right, String what) {
    if (!left.equals(right)) throw new AssertionError(what + ": " + left + " is not " + right);
  }

  static String put(String key, String body) {
    return s3.putObject(r -> r.bucket(BUCKET).key(key), RequestBody.fromString(body)).versionId();
  }

  static String get(String key) {
    return s3.getObjectAsBytes(r -> r.bucket(BUCKET).key(key)).asUtf8String();
  }

  static String codeOf(Runnable call) {
    try {
      call.run();
    } catch (S3Exception error) {
      return error.awsErrorDetails().errorCode();
    }
    return "none";
  }

  static void tree(S3TransferManager manager) {
    var sent = manager.uploadDirectory(r -> r.bucket(BUCKET).s3Prefix("tree").source(Path.of("up")));
    same(sent.completionFuture().join().failedTransfers(), List.of(), "failures of the upload");
    var back =
        manager.downloadDirectory(
            r -> r.bucket(BUCKET).destination(Path.of("down")).listObjectsV2RequestTransformer(l -> l.prefix("tree/").maxKeys(7)));
    same(back.completionFuture().join().failedTransfers(), List.of(), "failures of the download");
  }

  static void streams(S3TransferManager manager) throws Exception {
    var big = new byte[17_000_001];
    new Random(1).nextBytes(big);
    for (var algorithm : List.of("", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")) {
      var key = "big" + algorithm;
      // A stream of which nothing is known.
      var body = BlockingInputStreamAsyncRequestBody.builder().contentLength(null).build();
      var request = PutObjectRequest.builder().bucket(BUCKET).key(key);
      if (!algorithm.isEmpty()) request.checksumAlgorithm(algorithm);
      var upload = manager.upload(r -> r.requestBody(body).putObjectRequest(request.build()));
      body.writeInputStream(new ByteArrayInputStream(big));
      upload.completionFuture().join();
      var whole = async.getObject(r -> r.bucket(BUCKET).key(key), AsyncResponseTransformer.toBytes()).join();
      same(Arrays.equals(whole.asByteArray(), big), true, key);
    }
    s3.putObject(
        r -> r.bucket(BUCKET).key("one").metadata(Map.of("colour", "grey")),
        RequestBody.fromContentProvider(ContentStreamProvider.fromInputStreamSupplier(() -> new ByteArrayInputStream(big)), "text/x-stone"));
    var one = s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("one"));
    same(Arrays.equals(one.asByteArray(), big), true, "one");
    same(one.response().metadata(), Map.of("colour", "grey"), "metadata");
    var end = s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("big").range("bytes=-5"));
    same(Arrays.equals(end.asByteArray(), Arrays.copyOfRange(big, big.length - 5, big.length)), true, "the end");
    var head = s3.headObject(r -> r.bucket(BUCKET).key("big").partNumber(2));
    same(head.partsCount(), 3, "parts");

    async.copyObject(r -> r.sourceBucket(BUCKET).sourceKey("big").destinationBucket(BUCKET).destinationKey("ü/+ %41")).join();
    var copied = s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("ü/+ %41"));
    same(Arrays.equals(copied.asByteArray(), big), true, "a copy in parts");
    manager.downloadFile(r -> r.getObjectRequest(g -> g.bucket(BUCKET).key("big")).destination(Path.of("big"))).completionFuture().join();
    same(Arrays.equals(Files.readAllBytes(Path.of("big")), big), true, "a file");
  }

  /** The client that leaves requests to the library in C that AWS's other tools share. */
  static void byNativeCode() throws Exception {
    var file = Path.of("big");
    try (var crt = S3AsyncClient.crtBuilder().endpointOverride(ENDPOINT).minimumPartSizeInBytes(5L << 20).build()) {
      crt.putObject(r -> r.bucket(BUCKET).key("crt"), AsyncRequestBody.fromFile(file)).join();
      crt.copyObject(r -> r.sourceBucket(BUCKET).sourceKey("crt").destinationBucket(BUCKET).destinationKey("crt copy")).join();
      var back = crt.getObject(r -> r.bucket(BUCKET).key("crt copy"), AsyncResponseTransformer.toBytes()).join();
      same(Arrays.equals(back.asByteArray(), Files.readAllBytes(file)), true, "by native code");
    }
  }

  /** Many create one key, and count by an ETag each. */
  static void conditions() throws Exception {
    try (var pool = new Pool()) {
      var won =
          pool.all(
              n -> codeOf(() -> s3.putObject(r -> r.bucket(BUCKET).key("race").ifNoneMatch("*"), RequestBody.fromString("" + n))));
      same(won.stream().filter("none"::equals).count(), 1L, "winners");
      same(get("race"), "" + won.indexOf("none"), "the winner's body");
      put("counter", "");
      pool.all(
          n -> {
            for (int added = 0; added < ADDS; ) {
              var now = s3.getObjectAsBytes(r -> r.bucket(BUCKET).key("counter"));
              var code =
                  codeOf(
                      () ->
                          s3.putObject(
                              r -> r.bucket(BUCKET).key("counter").ifMatch(now.response().eTag()),
                              RequestBody.fromString(now.asUtf8String() + "x")));
              if (code.equals("none")) added++;
              else if (!code.equals("ConditionalRequestConflict")) same(code, "PreconditionFailed", "refusal");
            }
            return "";
          });
      same(get("counter").length(), WRITERS * ADDS, "counted");
    }
  }

  static void byLinks() throws Exception {
    try (var links = S3Presigner.builder().endpointOverride(ENDPOINT).build()) {
      var http = HttpClient.newHttpClient();
      var write = links.presignPutObject(r -> r.signatureDuration(Duration.ofMinutes(1)).putObjectRequest(p -> p.bucket(BUCKET).key("by-link")));
      var request = HttpRequest.newBuilder(write.url().toURI()).PUT(HttpRequest.BodyPublishers.ofString("by link")).build();
      same(http.send(request, HttpResponse.BodyHandlers.ofString()).statusCode(), 200, "PUT by link");
      var read = links.presignGetObject(r -> r.signatureDuration(Duration.ofMinutes(1)).getObjectRequest(g -> g.bucket(BUCKET).key("by-link")));
      request = HttpRequest.newBuilder(read.url().toURI()).build();
      same(http.send(request, HttpResponse.BodyHandlers.ofString()).body(), "by link", "GET by link");
    }
  }

  static void versionsAndTheEnd() {
    s3.putBucketVersioning(r -> r.bucket(BUCKET).versioningConfiguration(v -> v.status(BucketVersioningStatus.ENABLED)));
    var first = put("versioned", "one");
    var second = put("versioned", "two");
    var listed = s3.listObjectVersions(r -> r.bucket(BUCKET).prefix("versioned")).versions();
    same(listed.stream().map(ObjectVersion::versionId).toList(), List.of(second, first), "versions");
    s3.deleteObject(r -> r.bucket(BUCKET).key("versioned"));
    same(codeOf(() -> get("versioned")), "NoSuchKey", "behind a marker");
    same(codeOf(() -> s3.deleteBucket(r -> r.bucket(BUCKET))), "BucketNotEmpty", "not empty");
    for (var page : s3.listObjectVersionsPaginator(r -> r.bucket(BUCKET).maxKeys(30))) {
      var left = new ArrayList<ObjectIdentifier>();
      page.versions().forEach(v -> left.add(ObjectIdentifier.builder().key(v.key()).versionId(v.versionId()).build()));
      page.deleteMarkers().forEach(v -> left.add(ObjectIdentifier.builder().key(v.key()).versionId(v.versionId()).build()));
      same(s3.deleteObjects(r -> r.bucket(BUCKET).delete(d -> d.objects(left))).errors(), List.of(), "errors of deletes");
    }
    s3.deleteBucket(r -> r.bucket(BUCKET));
    same(s3.listBuckets().buckets(), List.of(), "after the end");
  }

  public static void main(String[] arguments) throws Exception {
    s3.createBucket(r -> r.bucket(BUCKET));
    try (var manager = S3TransferManager.builder().s3Client(async).build()) {
      tree(manager);
      streams(manager);
    }
    byNativeCode();
    conditions();
    byLinks();
    versionsAndTheEnd();
    async.close();
    s3.close();
  }

  /** Runs as many at once as there are writers. */
  static class Pool implements AutoCloseable {
    interface Work {
      String of(int n) throws Exception;
    }

    private final java.util.concurrent.ExecutorService threads = Executors.newFixedThreadPool(WRITERS);

    List<String> all(Work work) throws Exception {
      var calls = new ArrayList<Callable<String>>();
      for (int n = 0; n < WRITERS; n++) {
        int writer = n;
        calls.add(() -> work.of(writer));
      }
      var told = new ArrayList<String>();
      for (Future<String> one : threads.invokeAll(calls)) told.add(one.get());
      return told;
    }

    @Override
    public void close() {
      threads.shutdown();
    }
  }
}
