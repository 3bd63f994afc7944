// Renders a Helm chart as `helm template` does, for tests on machines without helm: text/template, sprig, and helm's own
// additions (include, tpl, required, toYaml, .Files, .Capabilities). Values files are laid over each other as helm does it: maps
// are merged, null removes a key, and every number is a float64, so that what helm would print as 1e+06 is printed so here too.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run main.go CHART '{"release":…,"namespace":…,"apis":[…]}' VALUES.yaml…
//
// Prints one JSON object: the template's path and its text. Exit code 1 and a message where a template fails.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	yaml2 "gopkg.in/yaml.v2"
	yaml3 "gopkg.in/yaml.v3"
)

type object = map[string]interface{}

type files map[string][]byte

func (f files) Get(name string) string { return string(f[name]) }

func (f files) Glob(pattern string) files {
	found := files{}
	for name, content := range f {
		if ok, _ := path.Match(pattern, name); ok {
			found[name] = content
		}
	}
	return found
}

type versions []string

func (v versions) Has(wanted string) bool {
	for _, one := range v {
		if one == wanted {
			return true
		}
	}
	return false
}

type request struct {
	Release   string   `json:"release"`
	Namespace string   `json:"namespace"`
	Apis      []string `json:"apis"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(name string) []byte {
	content, err := os.ReadFile(name)
	check(err)
	return content
}

// fromYaml reads YAML by way of JSON, as helm does.
func fromYaml(content []byte) object {
	var plain interface{}
	check(yaml3.Unmarshal(content, &plain))
	encoded, err := json.Marshal(plain)
	check(err)
	values := object{}
	check(json.Unmarshal(encoded, &values))
	return values
}

func toYaml(value interface{}) string {
	encoded, err := json.Marshal(value)
	check(err)
	var plain interface{}
	check(yaml2.Unmarshal(encoded, &plain))
	written, err := yaml2.Marshal(plain)
	check(err)
	return strings.TrimSuffix(string(written), "\n")
}

func merge(into, over object) {
	for key, value := range over {
		below, isMap := into[key].(object)
		above, both := value.(object)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && both:
			merge(below, above)
		default:
			into[key] = value
		}
	}
}

func main() {
	chart := os.Args[1]
	var asked request
	check(json.Unmarshal([]byte(os.Args[2]), &asked))
	values := fromYaml(read(filepath.Join(chart, "values.yaml")))
	for _, name := range os.Args[3:] {
		merge(values, fromYaml(read(name)))
	}
	about := fromYaml(read(filepath.Join(chart, "Chart.yaml")))
	there := files{}
	check(filepath.Walk(chart, func(name string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			relative, _ := filepath.Rel(chart, name)
			there[filepath.ToSlash(relative)] = read(name)
		}
		return err
	}))
	context := object{
		"Values":  values,
		"Chart":   object{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
		"Release": object{"Name": asked.Release, "Namespace": asked.Namespace, "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1},
		"Files":   there,
		"Capabilities": object{
			"APIVersions": versions(asked.Apis),
			"KubeVersion": object{"Version": "v1.30.0", "Major": "1", "Minor": "30"},
		},
	}
	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["toYaml"] = toYaml
	functions["fromYaml"] = func(text string) object { return fromYaml([]byte(text)) }
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["tpl"] = func(text string, data interface{}) (string, error) {
		one, err := template.Must(all.Clone()).New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out bytes.Buffer
		err = one.Execute(&out, data)
		return out.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	functions["lookup"] = func(...string) object { return object{} }
	all.Funcs(functions)
	for name, content := range there {
		if strings.HasPrefix(name, "templates/") {
			_, err := all.New(name).Parse(string(content))
			check(err)
		}
	}
	rendered := map[string]string{}
	for name := range there {
		if strings.HasPrefix(name, "templates/") && !strings.HasPrefix(path.Base(name), "_") {
			var out bytes.Buffer
			check(all.ExecuteTemplate(&out, name, context))
			rendered[name] = strings.ReplaceAll(out.String(), "<no value>", "")
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(rendered))
}
