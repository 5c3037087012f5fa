// Checks a manifest as a cluster would that takes nothing it does not know: each object is read strictly into Kubernetes'
// own types, each pod must satisfy the Pod Security Standard "restricted", selectors must select, and the probe must end
// before the kubelet ends it.
//
//	go -C tests/manifests run . "$PWD/docker/kubernetes.yaml"
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manifests FILE")
		os.Exit(1)
	}
	objects, err := read(os.Args[1])
	if err == nil {
		err = check(objects)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d objects, decoded strictly, restricted\n", os.Args[1], len(objects))
}

// read decodes all objects of a file. A field that is unknown or there twice is an error.
func read(path string) ([]runtime.Object, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(apps.AddToScheme(scheme), core.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if err == io.EOF {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

func check(objects []runtime.Object) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	var problems []error
	var pods []core.PodTemplateSpec
	for _, object := range objects {
		if deployment, ok := object.(*apps.Deployment); ok {
			pod := deployment.Spec.Template
			pods = append(pods, pod)
			problems = append(problems, checkSelector(deployment), checkPod(evaluator, &pod))
		}
	}
	if len(pods) == 0 {
		problems = append(problems, errors.New("there is no Deployment"))
	}
	for _, object := range objects {
		if service, ok := object.(*core.Service); ok {
			problems = append(problems, checkService(service, pods))
		}
	}
	return errors.Join(problems...)
}

func checkSelector(deployment *apps.Deployment) error {
	selector, err := meta.LabelSelectorAsSelector(deployment.Spec.Selector)
	if err == nil && !selector.Matches(labels.Set(deployment.Spec.Template.Labels)) {
		err = fmt.Errorf("the Deployment %s does not select its own pods", deployment.Name)
	}
	return err
}

func checkService(service *core.Service, pods []core.PodTemplateSpec) error {
	selector := labels.SelectorFromSet(service.Spec.Selector)
	for _, pod := range pods {
		if !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		for _, port := range service.Spec.Ports {
			if !hasPort(&pod, port) {
				return fmt.Errorf("the Service %s leads to the port %s, which its pods lack", service.Name, port.TargetPort.String())
			}
		}
		return nil
	}
	return fmt.Errorf("the Service %s selects no pods", service.Name)
}

func hasPort(pod *core.PodTemplateSpec, wanted core.ServicePort) bool {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == wanted.TargetPort.String() || port.ContainerPort == wanted.TargetPort.IntVal {
				return true
			}
		}
	}
	return false
}

func checkPod(evaluator policy.Evaluator, pod *core.PodTemplateSpec) error {
	var problems []error
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	results := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if !results.Allowed {
		problems = append(problems, fmt.Errorf("not restricted: %s", results.ForbiddenDetail()))
	}
	for _, container := range pod.Spec.Containers {
		for name, probe := range map[string]*core.Probe{
			"startupProbe":   container.StartupProbe,
			"readinessProbe": container.ReadinessProbe,
			"livenessProbe":  container.LivenessProbe,
		} {
			if err := checkProbe(probe); err != nil {
				problems = append(problems, fmt.Errorf("%s of %s: %w", name, container.Name, err))
			}
		}
	}
	return errors.Join(problems...)
}

// checkProbe fails unless the probe has a -timeout that is shorter than the kubelet's.
func checkProbe(probe *core.Probe) error {
	if probe == nil || probe.Exec == nil {
		return errors.New("no exec probe")
	}
	for _, word := range probe.Exec.Command {
		if value, found := strings.CutPrefix(word, "-timeout="); found {
			timeout, err := time.ParseDuration(value)
			if err == nil && timeout >= time.Duration(probe.TimeoutSeconds)*time.Second {
				err = fmt.Errorf("timeoutSeconds is %d, which leaves no time after -timeout=%s", probe.TimeoutSeconds, value)
			}
			return err
		}
	}
	return errors.New("no -timeout=")
}
