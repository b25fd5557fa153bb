package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	inside "sallyport/agent/definition"
	"sallyport/agent/policy"
	"sallyport/relay/definition"
	"sallyport/test/microsoft"
)

// A trial is what all files are tried with.
type trial struct {
	schemas   *microsoft.Schemas
	root, out string
	limit     time.Duration
}

// A result is what came of one file.
type result struct {
	file    string
	faults  []string
	refused error
	took    time.Duration
	size    int
}

func (r *result) failf(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// one tries one file. A run that does not end is left behind: the program ends anyway.
func (t *trial) one(path string) result {
	done := make(chan result, 1)
	go func() {
		r := result{file: path}
		defer func() {
			if v := recover(); v != nil {
				r.failf("panic: %v\n%s", v, debug.Stack())
			}
			done <- r
		}()
		start := time.Now()
		t.try(path, &r)
		r.took = time.Since(start)
	}()
	select {
	case r := <-done:
		return r
	case <-time.After(t.limit):
		return result{file: path, faults: []string{fmt.Sprintf("it has not ended after %s", t.limit)}, took: t.limit}
	}
}

// methods are all that an allow-list can be drafted for.
var methods = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

func (t *trial) try(path string, r *result) {
	data, err := os.ReadFile(path)
	if err != nil {
		r.refused = err
		return
	}
	rules, err := t.draft(path, data, r)
	if err != nil {
		r.refused = fmt.Errorf("from-definition: %w", err)
	}
	// The document as it is, as --definition takes it.
	if doc, err := definition.Parse(data); err == nil {
		t.export(filepath.Join(t.out, t.name(path), "whole"), doc, r)
	} else if r.refused == nil {
		r.failf("the agent takes it, the relay does not: %v", err)
	}
	if r.refused != nil {
		return
	}
	// The document as the agent cuts it.
	cut, err := t.cut(path, data, rules)
	if err != nil {
		r.refused = err
		return
	}
	doc, err := definition.Parse(cut)
	if err != nil {
		r.failf("the relay cannot read what the agent sends: %v", err)
		return
	}
	t.export(filepath.Join(t.out, t.name(path), "cut"), doc, r)
}

func (t *trial) name(path string) string {
	rel, err := filepath.Rel(t.root, path)
	if err != nil {
		rel = filepath.Base(path)
	}
	return strings.TrimSuffix(rel, filepath.Ext(rel))
}

// draft makes the allow-list of all operations.
func (t *trial) draft(path string, data []byte, r *result) ([]string, error) {
	d, err := inside.DraftRules(path, data, methods, nil, func(rule string) error {
		_, err := policy.Compile([]string{rule})
		return err
	})
	if err != nil {
		return nil, err
	}
	var rules []string
	for _, one := range d.Rules {
		rules = append(rules, one.Rule)
	}
	if _, err := policy.Compile(rules); err != nil && len(rules) > 0 {
		r.failf("the drafted allow-list cannot be compiled: %v", err)
	}
	return rules, nil
}

// cut is what the agent would send, for an API whose host the document names nowhere by itself.
func (t *trial) cut(path string, data []byte, rules []string) ([]byte, error) {
	p, err := policy.Compile(rules)
	if err != nil {
		return nil, fmt.Errorf("there is nothing to allow: %w", err)
	}
	o := inside.Options{
		URL:     &url.URL{Scheme: "http", Host: "erp.corp.example", Path: basePath(data)},
		Allowed: func(method, path string) bool { return p.DecideTemplate(method, path).Allowed },
	}
	one, err := inside.Cut(path, data, o)
	if err != nil {
		return nil, err
	}
	two, err := inside.Cut(path, data, o)
	if err != nil || one.Digest != two.Digest {
		return nil, fmt.Errorf("the agent cuts it another way the second time: %v", err)
	}
	return one.Body, nil
}

// basePath is the one that an OpenAPI 2.0 document in JSON states, so that the cut finds its operations.
func basePath(data []byte) string {
	var doc struct {
		BasePath string `json:"basePath"`
	}
	_ = json.Unmarshal(data, &doc) // anything else has none
	return strings.TrimRight(doc.BasePath, "/")
}

func target() definition.Target {
	return definition.Target{
		URL: "https://relay.example.com/plant1/orders", Gateway: "plant1", Name: "orders",
		Auth: []definition.Auth{{Kind: definition.AuthKey}}, Ping: definition.PingPath,
	}
}

// export makes all formats, twice.
func (t *trial) export(folder string, doc *definition.Document, r *result) {
	f, err := definition.PowerPlatform(doc, target())
	if err != nil {
		r.refused = fmt.Errorf("export: %w", err)
		return
	}
	again, err := definition.PowerPlatform(doc, target())
	if err != nil || !bytes.Equal(f.Definition, again.Definition) {
		r.failf("%s: another result the second time: %v", filepath.Base(folder), err)
	}
	t.judge(f, r)
	collection, _, err := definition.Postman(doc, target())
	if err != nil {
		r.failf("postman: %v", err)
	}
	if _, err := definition.Parse(collection); err != nil && len(f.Operations) > 1 {
		r.failf("postman: the collection cannot be read again: %v", err)
	}
	open, _, err := definition.OpenAPI3(doc, target())
	if err != nil {
		r.failf("openapi3: %v", err)
	}
	if _, err := definition.Parse(open); err != nil {
		r.failf("openapi3: the document cannot be read again: %v", err)
	}
	if changes, err := definition.Compare(doc, doc); err != nil || len(changes) > 0 {
		r.failf("it differs from itself: %v %.3v", err, changes)
	}
	t.keep(folder, map[string][]byte{
		"apiDefinition.swagger.json": f.Definition, "apiProperties.json": f.Properties,
		"postman.json": collection, "openapi.json": open,
	}, r)
}

// judge holds the files against the limits, Microsoft's schemas and the linter.
func (t *trial) judge(f *definition.Files, r *result) {
	r.size = max(r.size, len(f.Definition))
	if len(f.Definition) >= definition.MaxDefinitionSize || len(f.Operations) > definition.MaxOperations {
		r.failf("%d bytes, %d operations", len(f.Definition), len(f.Operations))
	}
	for name, data := range map[string][]byte{
		"apiDefinition.swagger.json": f.Definition, "apiProperties.json": f.Properties, "settings.json": f.Settings,
	} {
		if err := t.schemas.Check(name, data); err != nil {
			r.failf("Microsoft's schema: %.1500v", err)
		}
	}
	for _, one := range append(definition.Lint(f.Definition), definition.LintProperties(f.Properties)...) {
		if one.Severity == definition.SeverityError {
			r.failf("lint: %s at %s: %s", one.Rule, one.Place, one.Message)
		}
	}
}

func (t *trial) keep(folder string, files map[string][]byte, r *result) {
	if t.out == "" {
		return
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		r.failf("%v", err)
		return
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			r.failf("%v", err)
		}
	}
}
