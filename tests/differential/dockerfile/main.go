// Prints the images that BuildKit's own parser sees in Dockerfiles.
//
// Standard input is a sequence of files, each after its length in bytes as a decimal number and a line feed. For each
// file one line is written: "refused" and why, or "accepted" and the images, each as FIRST-LAST=NAME with the lines of
// the instruction (0-0 for the frontend). The fields are separated by tabs, and quoted as in Go.
//
// What is an image follows moby/buildkit, frontend/dockerfile/dockerfile2llb/convert.go: the bases of stages with the
// variables from before the first FROM, the sources of COPY --from and of RUN --mount, and those in ONBUILD.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

type image struct {
	first, last int
	name        string
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for {
		file, err := next(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = write(out, file)
		}
		if err == nil && in.Buffered() == 0 {
			err = out.Flush()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

func next(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	length, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
	if err != nil || length < 0 || length > 1<<20 {
		return nil, fmt.Errorf("not a length: %q", line)
	}
	file := make([]byte, length)
	_, err = io.ReadFull(in, file)
	return file, err
}

func write(out *bufio.Writer, file []byte) error {
	images, err := seen(file)
	line := "accepted"
	if err != nil {
		line = "refused\t" + strconv.Quote(err.Error())
	}
	for _, i := range images {
		line += "\t" + strconv.Quote(fmt.Sprintf("%d-%d=%s", i.first, i.last, i.name))
	}
	_, err = out.WriteString(line + "\n")
	return err
}

// at is an image in an instruction.
func at(location []parser.Range, name string) image {
	return image{location[0].Start.Line, location[len(location)-1].End.Line, name}
}

// seen lists the images of a Dockerfile, in the order in which BuildKit comes upon them.
func seen(file []byte) ([]image, error) {
	var images []image
	if name, _, _, ok := parser.DetectSyntax(file); ok {
		images = append(images, image{name: name})
	}
	result, err := parser.Parse(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	stages, metaArgs, err := instructions.Parse(result.AST, nil)
	if err != nil {
		return nil, err
	}
	if len(stages) == 0 {
		return nil, errors.New("no stage")
	}
	lex := shell.NewLex(result.EscapeToken)
	globals, err := metaVariables(metaArgs, lex)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, stage := range stages {
		base, err := lex.ProcessWordWithMatches(stage.BaseName, shell.EnvsFromSlice(globals))
		if err != nil {
			return nil, err
		}
		if base.Result == "" {
			return nil, errors.New("the name of a base is empty")
		}
		if base.Result != "scratch" && !names[base.Result] {
			images = append(images, at(stage.Location, base.Result))
		}
		if stage.Name != "" {
			names[strings.ToLower(stage.Name)] = true
		}
	}
	for _, stage := range stages {
		for _, command := range stage.Commands {
			sources, err := sources(command, lex, names, len(stages))
			if err != nil {
				return nil, err
			}
			for _, name := range sources {
				images = append(images, at(command.Location(), name))
			}
		}
	}
	return images, nil
}

func metaVariables(metaArgs []instructions.ArgCommand, lex *shell.Lex) ([]string, error) {
	globals := []string{
		"BUILDPLATFORM=linux/amd64", "BUILDOS=linux", "BUILDARCH=amd64", "BUILDVARIANT=",
		"TARGETPLATFORM=linux/arm/v7", "TARGETOS=linux", "TARGETARCH=arm", "TARGETVARIANT=v7",
	}
	for _, command := range metaArgs {
		for _, arg := range command.Args {
			if arg.Value == nil {
				continue
			}
			value, err := lex.ProcessWordWithMatches(*arg.Value, shell.EnvsFromSlice(globals))
			if err != nil {
				return nil, err
			}
			globals = append(globals, arg.Key+"="+value.Result)
		}
	}
	return globals, nil
}

func sources(command instructions.Command, lex *shell.Lex, names map[string]bool, stages int) ([]string, error) {
	switch c := command.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			return nil, nil
		}
		from, err := lex.ProcessWordWithMatches(c.From, shell.EnvsFromSlice(nil))
		if err != nil {
			return nil, err
		}
		if from.Result != c.From {
			return nil, errors.New("variables in --from")
		}
		if index, err := strconv.Atoi(c.From); err == nil {
			if index < 0 || index >= stages {
				return nil, errors.New("no such stage")
			}
			return nil, nil
		}
		return named(c.From, names), nil
	case *instructions.RunCommand:
		var all []string
		for _, mount := range instructions.GetMounts(c) {
			if mount.From != "" {
				all = append(all, named(mount.From, names)...)
			}
		}
		return all, nil
	case *instructions.ArgCommand:
		for _, arg := range c.Args {
			if arg.Value != nil {
				if _, err := lex.ProcessWordWithMatches(*arg.Value, shell.EnvsFromSlice(nil)); err != nil {
					return nil, err
				}
			}
		}
	case *instructions.EnvCommand:
		for _, pair := range c.Env {
			if _, err := lex.ProcessWordWithMatches(pair.Value, shell.EnvsFromSlice(nil)); err != nil {
				return nil, err
			}
		}
	case *instructions.OnbuildCommand:
		return later(c.Expression, lex, names, stages)
	}
	return nil, nil
}

// later lists the images of an instruction after ONBUILD, as a build reads it for which it is run.
func later(expression string, lex *shell.Lex, names map[string]bool, stages int) ([]string, error) {
	result, err := parser.Parse(strings.NewReader(expression))
	if err != nil {
		return nil, err
	}
	if len(result.AST.Children) != 1 {
		return nil, errors.New("not one instruction in ONBUILD")
	}
	command, err := instructions.ParseCommand(result.AST.Children[0])
	if err != nil {
		return nil, err
	}
	if _, again := command.(*instructions.OnbuildCommand); again {
		// Go's lower case of "İ" is "i", which the pattern that takes ONBUILD off does not know: it never ends.
		_, rest, _ := strings.Cut(strings.TrimSpace(expression), " ")
		return later(rest, lex, names, stages)
	}
	return sources(command, lex, names, stages)
}

func named(name string, names map[string]bool) []string {
	if name == "scratch" || names[strings.ToLower(name)] {
		return nil
	}
	return []string{name}
}
