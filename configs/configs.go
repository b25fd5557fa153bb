// Package configs reads the YAML files that people write for Sallyport into Go structs, strictly, and holds the example
// and the JSON Schema of each. It knows nothing of what a setting means: the owner of the struct says that in a check
// function. It reads no file and no environment: cmd does.
//
//	var c Config
//	err := configs.Load("agent.yaml", data, &c, func(d *configs.Doc) {
//		if c.Relay == nil {
//			d.Errorf("relay", "relay is missing (give the URL of the relay)")
//		}
//		for i, a := range c.APIs {
//			if !label(a.Name) {
//				d.Errorf(fmt.Sprintf("apis[%d].name", i), "...")
//			}
//		}
//	})
//
// An error of Load is an [Errors] with everything that is wrong, from reading and from check, in the order of the file,
// one line each: "agent.yaml:12:5: message (what to do)".
//
// A struct's fields are the settings:
//
//	Relay string        `yaml:"relay,required"`           // the key must be there
//	Level string        `yaml:"level" enum:"info,debug"`  // one of these words
//	Wait  time.Duration `yaml:"wait"`                     // "230s", "1h30m", "7d"
//	Body  configs.Size  `yaml:"body"`                     // "100MB", "64KiB", 4096
//
// Strings, bools, integers, floats, time.Duration, structs, slices, maps with string keys, pointers to these and types
// with UnmarshalText (called for a plain value) can be read. A struct with UnmarshalText may be written either as one
// word or as a mapping. A field without a yaml tag, or with "-", is no setting. The comment above a field is its manual
// and becomes its description in the JSON Schema (package configs/schema).
//
// Strict means: an unknown key, a key written twice, a value of another kind, a second document, an anchor, an alias, a
// tag, an invisible character and a file over [MaxSize] are errors. What a reviewer sees is what the program reads.
package configs

import (
	"fmt"
	"reflect"
)

// MaxSize is the largest file that Load reads, in bytes.
const MaxSize = 1 << 20

// Load reads the YAML document in data into the struct that into points to, then calls check, unless it is nil, for what
// only the owner of the struct can judge. It calls check even if some values could not be read, so that one run shows
// all that is wrong; such a value is zero, and what check says about it is dropped. It does not call check for a file
// that is not YAML at all. name is what errors call the file. The error is nil or an Errors.
func Load(name string, data []byte, into any, check func(*Doc)) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("configs.Load: into is %T, must be a pointer to a struct", into))
	}
	d := &Doc{name: name, places: map[string]place{}, failed: map[string]bool{}}
	root, ok := d.parse(data)
	if !ok {
		return d.result()
	}
	d.document(root, v.Elem())
	if check != nil {
		d.checking = true
		check(d)
	}
	return d.result()
}
