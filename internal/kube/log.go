package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/redisctl/redisctl/internal/operation"
)

// logLine is how much of one line of a log is read, in bytes; the rest is left out.
const logLine = 16 << 10

// ReadLog hands every line that the server's container of an instance has printed since
// its start to line, the oldest first, at most limit bytes. What the node has rotated away
// is not there any more. It reports whether that was all.
func (c *Client) ReadLog(
	ctx context.Context, d *operation.Deployment, i operation.Instance, limit int64, line func(string),
) (complete bool, err error) {
	// One byte more tells whether the limit was met.
	stream, err := c.clientset.CoreV1().Pods(d.Namespace).GetLogs(i.Name, &corev1.PodLogOptions{
		Container: d.Workload.Container, LimitBytes: ptr.To(limit + 1),
	}).Stream(ctx)
	if err != nil {
		return false, c.failure(ctx, request{verb: "get", resource: "pods/log", namespace: d.Namespace, name: i.Name}, err)
	}
	defer func() { _ = stream.Close() }() // it was read to its end, or nobody wants the rest
	counted := &countingReader{Reader: stream}
	if err := eachLine(counted, line); err != nil {
		return false, fmt.Errorf("reading the log of %s: %w", i.Name, causeOr(ctx, err))
	}
	return counted.n <= limit, nil
}

type countingReader struct {
	io.Reader
	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}

// eachLine calls line with every line, or with as much of it as logLine allows.
func eachLine(from io.Reader, line func(string)) error {
	reader := bufio.NewReaderSize(from, logLine)
	for {
		text, more, err := reader.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line(string(text))
		for more && err == nil {
			_, more, err = reader.ReadLine()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}
