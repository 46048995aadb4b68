package kube

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redisctl/redisctl/internal/operation"
)

// phaseMissing is the phase of a pod that does not exist but should.
const phaseMissing = "Missing"

// podState sums up a pod as an operator needs to see it.
func podState(pod *corev1.Pod, container string) *operation.Pod {
	state := &operation.Pod{
		UID:      string(pod.UID),
		Node:     pod.Spec.NodeName,
		Phase:    string(pod.Status.Phase),
		Deleting: pod.DeletionTimestamp != nil,
		Created:  pod.CreationTimestamp.Time,
		Revision: pod.Labels[appsv1.StatefulSetRevisionLabel],
	}
	for _, c := range pod.Spec.Containers {
		if c.Name == container {
			state.Image = c.Image
			state.MemoryLimit, state.CPULimit = c.Resources.Limits.Memory().Value(), c.Resources.Limits.Cpu().MilliValue()
		}
	}
	if condition := podCondition(pod, corev1.PodReady); condition != nil {
		state.Ready = condition.Status == corev1.ConditionTrue
	}
	if status := containerStatus(pod.Status.ContainerStatuses, container); status != nil {
		state.ContainerRunning = status.State.Running != nil
		state.Restarts = int(status.RestartCount)
		if last := status.LastTerminationState.Terminated; last != nil {
			state.LastExit = termination(last)
		}
	}
	reason, message := podReason(pod, container)
	state.Reason, state.Message = reason, firstLine(message)
	return state
}

// podReason says why a pod does not run, by the most specific cause there is.
// Both are empty when all is well.
func podReason(pod *corev1.Pod, container string) (reason, message string) {
	// Evicted, NodeLost, Preempting, DeadlineExceeded: the kubelet or a
	// controller gave up on the pod as a whole.
	if pod.Status.Reason != "" {
		return pod.Status.Reason, pod.Status.Message
	}
	if pod.DeletionTimestamp != nil {
		return "Terminating", ""
	}
	if scheduled := podCondition(pod, corev1.PodScheduled); scheduled != nil && scheduled.Status == corev1.ConditionFalse {
		return scheduled.Reason, scheduled.Message
	}
	for _, status := range pod.Status.InitContainerStatuses {
		if reason, message := containerReason(status); reason != "" {
			return "Init:" + reason, prefixed("init container "+status.Name, message)
		}
	}
	if status := containerStatus(pod.Status.ContainerStatuses, container); status != nil {
		if reason, message := containerReason(*status); reason != "" {
			return reason, message
		}
	}
	if pod.Status.Phase == corev1.PodRunning {
		if ready := podCondition(pod, corev1.PodReady); ready != nil && ready.Status != corev1.ConditionTrue {
			return "NotReady", ready.Message
		}
		return "", ""
	}
	if pod.Status.Phase == corev1.PodPending {
		return "Pending", "waiting for the kubelet"
	}
	return string(pod.Status.Phase), pod.Status.Message
}

// containerReason says why a container does not run. Both are empty when it
// runs, or when it is an init container that did its work.
func containerReason(status corev1.ContainerStatus) (reason, message string) {
	if waiting := status.State.Waiting; waiting != nil {
		// The back-off's own message only says how long it is; why the container
		// ended is what helps.
		if last := status.LastTerminationState.Terminated; last != nil && waiting.Reason == "CrashLoopBackOff" {
			return waiting.Reason, "last exit: " + termination(last)
		}
		return waiting.Reason, waiting.Message
	}
	if ended := status.State.Terminated; ended != nil && (ended.ExitCode != 0 || ended.Reason == "OOMKilled") {
		return ended.Reason, prefixed(fmt.Sprintf("exit code %d", ended.ExitCode), ended.Message)
	}
	return "", ""
}

// termination describes how a container ended: "OOMKilled, exit code 137".
func termination(ended *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exit code %d", ended.ExitCode)
	if ended.Signal != 0 {
		text = fmt.Sprintf("signal %d", ended.Signal)
	}
	if ended.Reason != "" {
		text = ended.Reason + ", " + text
	}
	return text
}

func containerStatus(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func prefixed(prefix, message string) string {
	if message == "" {
		return prefix
	}
	return prefix + ": " + message
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}
