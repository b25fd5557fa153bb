package manifest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"sallyport/configs"
)

// YAML writes the file as Load reads it: the same for the same relay, one setting a line, defaults left out.
func (f File) YAML() []byte {
	if len(f.Gateways) == 0 {
		return []byte("gateways: []\n")
	}
	var b strings.Builder
	writeSettings(&b, reflect.ValueOf(f), "", "")
	return []byte(b.String())
}

// writeSettings writes a struct. first stands before its first line, indent before the others.
func writeSettings(b *strings.Builder, v reflect.Value, first, indent string) {
	for _, s := range configs.Settings(v.Type()) {
		field := v.FieldByIndex(s.Field.Index)
		if field.IsZero() {
			continue
		}
		b.WriteString(first + s.Key + ":")
		first = indent
		switch {
		case field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Struct:
			b.WriteString("\n")
			writeSettings(b, field.Elem(), indent+"  ", indent+"  ")
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			b.WriteString("\n")
			for i := range field.Len() {
				writeSettings(b, field.Index(i), indent+"  - ", indent+"    ")
			}
		case field.Kind() == reflect.Slice:
			words := make([]string, field.Len())
			for i := range words {
				words[i] = word(field.Index(i).String())
			}
			b.WriteString(" [" + strings.Join(words, ", ") + "]\n")
		case field.Kind() == reflect.String:
			b.WriteString(" " + word(field.String()) + "\n")
		default: // sizes and times write themselves
			b.WriteString(fmt.Sprintf(" %v\n", field.Interface()))
		}
	}
}

// word quotes what YAML could take for anything but this text.
func word(s string) string {
	plain := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]*$`).MatchString(s)
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		plain = false
	}
	if plain {
		return s
	}
	quoted, _ := json.Marshal(s) // a string always has a form in JSON, and YAML reads that
	return string(quoted)
}
