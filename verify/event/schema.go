package event

import (
	"bytes"
	"embed"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"evidence-ledger/verify/problem"
)

// schemas/<type>.v<version>.json is the JSON Schema (draft 2020-12) of a
// type's "data". A published schema never changes: a change is a new version.
//
//go:embed schemas/*.json
var builtinFiles embed.FS

// Schemas are the evidence types that a reader knows, each with the compiled
// schema of its "data". It is safe for concurrent use.
type Schemas struct{ byType map[string]*jsonschema.Schema }

// Builtin returns the types that are part of this program.
func Builtin() *Schemas { return builtin() }

var builtin = sync.OnceValue(compileBuiltin)

func compileBuiltin() *Schemas {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.UseLoader(noLoader{})
	files, err := builtinFiles.ReadDir("schemas")
	if err != nil {
		panic(err) // the files are part of the program: TestSchemas
	}
	urls := map[string]string{}
	for _, f := range files {
		b, err := builtinFiles.ReadFile(path.Join("schemas", f.Name()))
		if err != nil {
			panic(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			panic(err)
		}
		name := strings.TrimSuffix(f.Name(), ".json")
		dot := strings.LastIndexByte(name, '.')
		typ := name[:dot] + ":" + name[dot+1:]
		urls[typ] = PredicatePrefix + typ
		if err := c.AddResource(urls[typ], doc); err != nil {
			panic(err)
		}
	}
	s := &Schemas{byType: map[string]*jsonschema.Schema{}}
	for typ, url := range urls {
		s.byType[typ] = c.MustCompile(url)
	}
	return s
}

// noLoader: a schema refers to nothing outside itself.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("the schema %s is not part of this program", url)
}

// Types lists the known types, sorted, as "patch.run.completed:v1".
func (s *Schemas) Types() []string { return slices.Sorted(maps.Keys(s.byType)) }

// check judges data by the schema of its type.
func (s *Schemas) check(typ string, version int, data jsontext.Value) error {
	name := fmt.Sprintf("%s:v%d", typ, version)
	schema, ok := s.byType[name]
	if !ok {
		return problem.New("event.type-unknown", "predicateType", "no schema is known for %s", name)
	}
	if len(data) == 0 {
		return problem.New("event.data", "predicate.data", "the data are absent")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read data for its schema: %w", err) // decode has read these bytes before: never
	}
	where, text := explain(schema.Validate(doc))
	if text != "" {
		return problem.New("event.schema", where, "%s", text)
	}
	return nil
}

// explain says what err holds against the data, or nothing where it is nil.
func explain(err error) (where, text string) {
	if err == nil {
		return "", ""
	}
	if v, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return first(v)
	}
	return "predicate.data", err.Error()
}

// first finds what is wrong at the bottom of the tree of violations. Where
// there are several it takes the first by place and text, so that everybody
// who checks says the same.
func first(v *jsonschema.ValidationError) (where, text string) {
	if len(v.Causes) == 0 {
		return explainLeaf(v)
	}
	for i, cause := range v.Causes {
		w, t := first(cause)
		if i == 0 || w < where || w == where && t < text {
			where, text = w, t
		}
	}
	return where, text
}

// explainLeaf names the member itself where one is absent or too many.
func explainLeaf(v *jsonschema.ValidationError) (where, text string) {
	at := append([]string{"predicate", "data"}, v.InstanceLocation...)
	switch k := v.ErrorKind.(type) {
	case *kind.Required:
		return place(append(at, k.Missing[0])...), "the member is absent"
	case *kind.AdditionalProperties:
		return place(append(at, slices.Min(k.Properties))...), "no such member belongs here"
	}
	return place(at...), fmt.Sprintf("%.300s", v.ErrorKind.LocalizedString(printer))
}

var printer = message.NewPrinter(language.English)
