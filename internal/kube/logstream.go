package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/logs"
)

var _ logs.Source = (*Client)(nil)

// StreamLog implements logs.Source.
func (c *Client) StreamLog(
	ctx context.Context, d *operation.Deployment, r logs.Request, line func(time.Time, string) error,
) error {
	options := &corev1.PodLogOptions{
		Container: r.Container, Follow: r.Follow, Previous: r.Previous, Timestamps: true,
	}
	if !r.Since.IsZero() {
		since := metav1.NewTime(r.Since)
		options.SinceTime = &since
	}
	if r.Tail >= 0 {
		options.TailLines = &r.Tail
	}
	stream, err := c.clientset.CoreV1().Pods(d.Namespace).GetLogs(r.Pod, options).Stream(ctx)
	if err != nil {
		failure := c.failure(ctx, request{verb: "get", resource: "pods/log", namespace: d.Namespace, name: r.Pod}, err)
		switch {
		case apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "is not valid for pod"):
			return &operation.Error{
				Kind: operation.Usage, Object: "pod " + d.Namespace + "/" + r.Pod, Err: fmt.Errorf("has no container %q: %s", r.Container, firstLine(err.Error())),
			}
		case apierrors.IsNotFound(err), apierrors.IsBadRequest(err):
			return fmt.Errorf("%w: %w", logs.ErrNotYet, failure)
		}
		return failure
	}
	defer func() { _ = stream.Close() }() // it was read to its end, or nobody wants the rest
	var refused error
	err = eachLine(stream, func(text string) {
		if refused != nil {
			return
		}
		stamp, rest, _ := strings.Cut(text, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			at, rest = time.Time{}, text // the kubelet's own words about the log
		}
		if refused = line(at, rest); refused != nil {
			_ = stream.Close() // nobody wants the rest
		}
	})
	switch {
	case refused != nil:
		return refused
	case err != nil:
		return fmt.Errorf("reading the log of %s: %w", r.Pod, causeOr(ctx, err))
	}
	return nil
}
