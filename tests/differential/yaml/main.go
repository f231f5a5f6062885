// Reads YAML streams as the Go programs that deploy them do. Each line of standard input is a JSON string that holds a
// stream; each line of standard output is a JSON object with, for every reader, the documents as JSON values and the
// error that ended the stream.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	yamlv4 "go.yaml.in/yaml/v4"
	yamlv3 "gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/yaml"
)

type result struct {
	Documents []any  `json:"documents"`
	Error     string `json:"error,omitempty"`
}

type decoder interface{ Decode(any) error }

// Each reader by the programs that use it.
var readers = map[string]func(io.Reader) decoder{
	// kubectl: the stream is split into lines first, and each document goes through sigs.k8s.io/yaml.
	"kubectl": func(stream io.Reader) decoder { return yaml.NewYAMLOrJSONDecoder(stream, 4096) },
	// Kustomize, act and older releases of Docker Compose.
	"yaml.v3": func(stream io.Reader) decoder { return yamlv3.NewDecoder(stream) },
	// Docker Compose.
	"yaml.v4": func(stream io.Reader) decoder { return yamlv4.NewDecoder(stream) },
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		check(err)
		var stream string
		check(json.Unmarshal(line, &stream))
		results := map[string]result{}
		for name, open := range readers {
			results[name] = decode(open(strings.NewReader(stream)))
		}
		encoded, err := json.Marshal(results)
		check(err)
		_, err = out.Write(append(encoded, '\n'))
		check(err)
		check(out.Flush())
	}
}

// decode reads document after document: those before an error may have been deployed.
func decode(from decoder) (all result) {
	defer func() {
		if panicked := recover(); panicked != nil {
			all.Error = fmt.Sprint(panicked)
		}
	}()
	for {
		var document any
		err := from.Decode(&document)
		if err == io.EOF {
			return all
		}
		if err != nil {
			all.Error = err.Error()
			return all
		}
		all.Documents = append(all.Documents, textKeys(document))
	}
}

// textKeys makes a value of YAML one that JSON can hold.
func textKeys(value any) any {
	switch value := value.(type) {
	case map[any]any:
		texts := map[string]any{}
		for key, inner := range value {
			texts[fmt.Sprint(key)] = textKeys(inner)
		}
		return texts
	case map[string]any:
		for key, inner := range value {
			value[key] = textKeys(inner)
		}
		return value
	case []any:
		for i, inner := range value {
			value[i] = textKeys(inner)
		}
		return value
	case string, nil, json.Number:
		return value
	default:
		// Numbers, booleans and times are no text to the programs either.
		return []any{fmt.Sprint(value)}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
