// The round of AWS's SDK for Go, with its transfer manager and links. No option but the endpoint.
//
// Sends the folder `up` and brings it back as `down`; go_sdk.py compares them.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	transfer "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

const (
	writers = 8
	adds    = 10
)

var (
	ctx     = context.Background()
	bucket  = aws.String("go-sdk-round")
	client  *s3.Client
	manager *transfermanager.Client
	links   *s3.PresignClient
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func same[T comparable](left, right T, what string) {
	if left != right {
		panic(fmt.Sprintf("%s: %v is not %v", what, left, right))
	}
}

func codeOf(err error) string {
	var told smithy.APIError
	if errors.As(err, &told) {
		return told.ErrorCode()
	}
	must(err)
	return ""
}

func put(key, body string) *s3.PutObjectOutput {
	return got(client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(body)}))
}

func get(key string) (string, *s3.GetObjectOutput) {
	answer := got(client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key}))
	defer answer.Body.Close()
	return string(got(io.ReadAll(answer.Body))), answer
}

func tree() {
	sent := got(manager.UploadDirectory(ctx, &transfermanager.UploadDirectoryInput{
		Bucket: bucket, Source: aws.String("up"), Recursive: aws.Bool(true), KeyPrefix: aws.String("tree"),
	}))
	back := got(manager.DownloadDirectory(ctx, &transfermanager.DownloadDirectoryInput{
		Bucket: bucket, Destination: aws.String("down"), KeyPrefix: aws.String("tree/"),
	}))
	same(sent.ObjectsFailed+back.ObjectsFailed, 0, "failures")
	same(sent.ObjectsUploaded, back.ObjectsDownloaded, "files")
	count := int64(0)
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{
		Bucket: bucket, Prefix: aws.String("tree/"), MaxKeys: aws.Int32(7),
	})
	for pages.HasMorePages() {
		count += int64(len(got(pages.NextPage(ctx)).Contents))
	}
	same(count, sent.ObjectsUploaded, "files listed")
}

// onlyReader hides the length and the ability to seek.
type onlyReader struct{ io.Reader }

func streams() {
	big := make([]byte, 17_000_001)
	rand.New(rand.NewSource(1)).Read(big)
	for _, algorithm := range []transfer.ChecksumAlgorithm{
		"", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256",
	} {
		key := "big" + string(algorithm)
		got(manager.UploadObject(ctx, &transfermanager.UploadObjectInput{
			Bucket: bucket, Key: &key, Body: onlyReader{bytes.NewReader(big)},
			ChecksumAlgorithm: algorithm, Metadata: map[string]string{"colour": "grey"},
		}))
		answer := got(manager.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: bucket, Key: &key}))
		same(bytes.Equal(got(io.ReadAll(answer.Body)), big), true, key)
		same(answer.Metadata["colour"], "grey", "metadata")
		whole, _ := get(key)
		same(whole == string(big), true, key)
	}
	head := got(client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("big"), PartNumber: aws.Int32(2)}))
	same(*head.PartsCount, 3, "parts")
	end := got(client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("big"), Range: aws.String("bytes=-5")}))
	same(string(got(io.ReadAll(end.Body))), string(big[len(big)-5:]), "the end")

	// In one request, with each checksum that the service's client can work out.
	for _, algorithm := range types.ChecksumAlgorithm("").Values() {
		key := "one" + string(algorithm)
		_, err := client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: bucket, Key: &key, Body: strings.NewReader(key), ChecksumAlgorithm: algorithm,
		})
		if err != nil && strings.Contains(err.Error(), "unknown checksum algorithm") {
			continue
		}
		must(err)
		body, _ := get(key)
		same(body, key, key)
	}
	copied := got(client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String(*bucket + "/big"),
	}))
	same(copied.CopyObjectResult.ETag != nil, true, "ETag of a copy")
	attributes := got(client.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{
		Bucket: bucket, Key: aws.String("copy"), ObjectAttributes: types.ObjectAttributes("").Values(),
	}))
	same(*attributes.ObjectSize, int64(len(big)), "size of a copy")
}

// conditions has many create one key, and count by an ETag each.
func conditions() {
	var all sync.WaitGroup
	won := make(chan string, writers)
	for n := range writers {
		all.Go(func() {
			body := fmt.Sprint(n)
			_, err := client.PutObject(ctx, &s3.PutObjectInput{
				Bucket: bucket, Key: aws.String("race"), Body: strings.NewReader(body), IfNoneMatch: aws.String("*"),
			})
			if err == nil {
				won <- body
			} else if code := codeOf(err); code != "ConditionalRequestConflict" {
				same(code, "PreconditionFailed", "refusal")
			}
		})
	}
	all.Wait()
	same(len(won), 1, "winners")
	body, _ := get("race")
	same(body, <-won, "the winner's body")

	put("counter", "")
	for range writers {
		all.Go(func() {
			for range adds {
				for {
					now, answer := get("counter")
					_, err := client.PutObject(ctx, &s3.PutObjectInput{
						Bucket: bucket, Key: aws.String("counter"), Body: strings.NewReader(now + "x"), IfMatch: answer.ETag,
					})
					if err == nil {
						break
					}
					if code := codeOf(err); code != "ConditionalRequestConflict" {
						same(code, "PreconditionFailed", "refusal")
					}
				}
			}
		})
	}
	all.Wait()
	body, _ = get("counter")
	same(len(body), writers*adds, "counted")
}

func byLinks() {
	signed := got(links.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("ü/+ %41")}))
	request := got(http.NewRequest(signed.Method, signed.URL, strings.NewReader("by link")))
	answer := got(http.DefaultClient.Do(request))
	answer.Body.Close()
	same(answer.StatusCode, 200, "PUT by link")
	signed = got(links.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("ü/+ %41")}))
	answer = got(http.Get(signed.URL))
	defer answer.Body.Close()
	same(string(got(io.ReadAll(answer.Body))), "by link", "GET by link")
}

func versionsAndTheEnd() {
	_, err := client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	must(err)
	first, second := put("versioned", "one"), put("versioned", "two")
	listed := got(client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket, Prefix: aws.String("versioned")}))
	same(*listed.Versions[0].VersionId, *second.VersionId, "latest")
	same(*listed.Versions[1].VersionId, *first.VersionId, "first")
	got(client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("versioned")}))
	_, err = client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("versioned")})
	same(codeOf(err), "NoSuchKey", "behind a marker")
	_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
	same(codeOf(err), "BucketNotEmpty", "not empty")

	pages := s3.NewListObjectVersionsPaginator(client, &s3.ListObjectVersionsInput{Bucket: bucket, MaxKeys: aws.Int32(30)})
	for pages.HasMorePages() {
		page := got(pages.NextPage(ctx))
		var left []types.ObjectIdentifier
		for _, version := range page.Versions {
			left = append(left, types.ObjectIdentifier{Key: version.Key, VersionId: version.VersionId})
		}
		for _, marker := range page.DeleteMarkers {
			left = append(left, types.ObjectIdentifier{Key: marker.Key, VersionId: marker.VersionId})
		}
		deleted := got(client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: left}}))
		same(len(deleted.Errors), 0, "errors of deletes")
	}
	got(client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket}))
	_, err = client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket})
	same(codeOf(err), "NotFound", "after the end")
}

func main() {
	if len(os.Args) > 1 {
		build, _ := debug.ReadBuildInfo()
		for _, module := range build.Deps {
			if module.Path == "github.com/aws/aws-sdk-go-v2/service/s3" {
				fmt.Println(module.Version)
			}
		}
		return
	}
	settings := got(config.LoadDefaultConfig(ctx, config.WithBaseEndpoint(os.Getenv("ENDPOINT"))))
	client = s3.NewFromConfig(settings)
	manager = transfermanager.New(client)
	links = s3.NewPresignClient(client)
	got(client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))
	tree()
	streams()
	conditions()
	byLinks()
	versionsAndTheEnd()
}
