package main_test

import (
	"cmp"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The architecture, held by tests: who may import whom, what verify must not
// touch, and what lies where. A rule here is changed on purpose or not at all.

const module = "evidence-ledger"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Standard   bool
	Imports    []string
	GoFiles    []string
}

// short is the path inside the repository.
func (p pkg) short() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func goCommand(t *testing.T, environment []string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.Output()
	if err != nil {
		stderr := ""
		if exit, ok := err.(*exec.ExitError); ok {
			stderr = string(exit.Stderr)
		}
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return out
}

func list(t *testing.T, environment []string, args ...string) (packages []pkg) {
	t.Helper()
	out := goCommand(t, environment, append([]string{"list", "-json=ImportPath,Name,Dir,Standard,Imports,GoFiles"}, args...)...)
	d := jsontext.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := json.UnmarshalDecode(d, &p)
		if err == io.EOF {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

var cached struct {
	sync.Once
	packages []pkg
}

// ours lists the packages of this repository as they are built, without tests.
func ours(t *testing.T) []pkg {
	t.Helper()
	cached.Do(func() { cached.packages = list(t, nil, "./...") })
	if len(cached.packages) < 20 {
		t.Fatalf("go list found only %d packages", len(cached.packages))
	}
	return cached.packages
}

// within tells whether a path is the folder or lies below it.
func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func withinAny(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return within(path, f) })
}

// eachImport calls fn with every import of every package of ours.
func eachImport(t *testing.T, fn func(from pkg, to string)) {
	t.Helper()
	for _, p := range ours(t) {
		for _, to := range p.Imports {
			fn(p, to)
		}
	}
}

// TestOnlyOneKnows: what is dangerous, or large, or somebody else's, is known to
// the packages named here and to no other.
func TestOnlyOneKnows(t *testing.T) {
	knows := map[string][]string{
		"github.com/cockroachdb/pebble":       {"ledger/store"},
		"github.com/nats-io/nats-server":      {"ledger/bus"},
		"github.com/nats-io/nats.go":          {"ledger/bus", "collectors/publish"},
		"github.com/nats-io/nkeys":            {"ledger/bus", "collectors/publish"},
		"go.etcd.io/bbolt":                    {"collectors/spool"},
		"github.com/santhosh-tekuri":          {"verify/event"},
		"github.com/spf13/cobra":              {"cmd"},
		"github.com/schollz/progressbar":      {"cmd"},
		"golang.org/x/term":                   {"cmd"},
		"filippo.io/edwards25519":             {"verify/key"},
		"net/http":                            {"ledger/node", "ledger/console", "collectors/agent"},
		"os/exec":                             {},
		"unsafe":                              {},
		"C":                                   {},
		"math/rand":                           {},
		"math/rand/v2":                        {},
		"crypto/rand":                         {"ledger/sign"},
		"testing":                             {"ledger/ledgertest"},
		"filippo.io/torchwood":                {}, // independent judges, in tests only
		"github.com/transparency-dev/merkle":  {},
		"github.com/rogpeppe/go-internal":     {},
		"pgregory.net/rapid":                  {},
		"github.com/gowebpki/jcs":             {},
		"github.com/sigstore":                 {"ledger/sign"},
		"github.com/youmark":                  {"ledger/sign"},
		"golang.org/x/exp":                    {},
		"github.com/cockroachdb/errors":       {},
		"github.com/prometheus/client_golang": {},
	}
	used := map[string]bool{}
	eachImport(t, func(from pkg, to string) {
		for what, who := range knows {
			if to != what && !(within(to, what) && strings.Contains(what, ".")) {
				continue
			}
			// ledgertest is a rig for tests: no program imports it.
			if from.short() == "ledger/ledgertest" && within(to, "github.com/cockroachdb/pebble/v2/vfs") {
				continue
			}
			used[what] = true
			if !withinAny(from.short(), who...) {
				t.Errorf("%s imports %s, which only %v may", from.short(), to, who)
			}
		}
	})
	for what, who := range knows {
		if len(who) > 0 && !used[what] {
			t.Errorf("nobody imports %s any more: take the rule out", what)
		}
	}
}

// layers from the bottom up. A package imports only what stands before it.
var layers = []string{
	"verify/problem", "verify/syntax", "verify/key", "verify/entry", "verify/checkpoint", "verify/event",
	"verify/trust", "verify/submission", "verify",
	"ledger/sign", "ledger/store", "ledger/recheck", "ledger", "ledger/action", "ledger/ledgertest",
	"ledger/bus", "ledger/ingest", "ledger/console", "ledger/node",
	"collectors", "collectors/spool", "collectors/publish", "collectors/patchrun", "collectors/agent",
	"cmd/ledger", "cmd/collector",
}

// TestLayers holds section "packages" of the design: the verifier knows neither
// ledger nor collectors, these know each other only by ledger/sign, and nothing
// imports what stands above it.
func TestLayers(t *testing.T) {
	for _, p := range ours(t) {
		if !slices.Contains(layers, p.short()) {
			t.Errorf("package %s has no place among the layers: give it one", p.short())
		}
	}
	eachImport(t, func(from pkg, path string) {
		if !within(path, module) {
			return
		}
		to := pkg{ImportPath: path}.short()
		switch a, b := slices.Index(layers, from.short()), slices.Index(layers, to); {
		case a <= b:
			t.Errorf("%s imports %s, which stands above it", from.short(), to)
		case within(from.short(), "verify") && !within(to, "verify"):
			t.Errorf("%s imports %s: the verifier stands alone", from.short(), to)
		case within(from.short(), "collectors") && within(to, "ledger") && to != "ledger/sign":
			t.Errorf("%s imports %s: a collector knows no more of the ledger than ledger/sign", from.short(), to)
		case within(from.short(), "ledger") && within(to, "collectors"):
			t.Errorf("%s imports %s: the node knows no collector", from.short(), to)
		case from.short() == "cmd/ledger" && within(to, "collectors"):
			t.Errorf("%s imports %s", from.short(), to)
		case from.short() == "cmd/collector" && within(to, "ledger"):
			t.Errorf("%s imports %s", from.short(), to)
		case to == "ledger/ledgertest":
			t.Errorf("%s imports %s, which is for tests", from.short(), to)
		}
	})
}

// TestVerifyTouchesNothing: no network, no clock, no randomness, no private key,
// no file, no process, neither by import nor by call.
func TestVerifyTouchesNothing(t *testing.T) {
	packages := []string{"net", "os", "syscall", "unsafe", "plugin", "math/rand", "crypto/rand", "log", "io/ioutil", "C", "runtime/debug", "testing"}
	calls := map[string][]string{
		"time":    {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local", "LoadLocation"},
		"ed25519": {"PrivateKey", "GenerateKey", "Sign", "NewKeyFromSeed"},
		"ecdsa":   {"PrivateKey", "GenerateKey", "Sign", "SignASN1"},
		"x509":    {"ParsePKCS8PrivateKey", "ParseECPrivateKey", "ParsePKCS1PrivateKey", "MarshalPKCS8PrivateKey", "CreateCertificate"},
		"note":    {"NewSigner", "GenerateKey"},
		"fmt":     {"Print", "Println", "Printf", "Scan", "Scanln", "Scanf"},
	}
	seen := 0
	for _, p := range ours(t) {
		if !within(p.short(), "verify") {
			continue
		}
		for _, path := range p.Imports {
			if withinAny(path, packages...) {
				t.Errorf("%s imports %s", p.short(), path)
			}
		}
		for _, name := range p.GoFiles {
			seen++
			selectors(t, filepath.Join(p.Dir, name), func(at token.Position, of, name string) {
				if slices.Contains(calls[of], name) {
					t.Errorf("%s: %s.%s", at, of, name)
				}
			})
		}
	}
	if seen < 20 {
		t.Errorf("only %d files were looked at", seen)
	}
}

// selectors calls fn with every X.Y of a file where X is a package, by the last
// part of its path.
func selectors(t *testing.T, path string, fn func(at token.Position, of, name string)) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		base := path[strings.LastIndex(path, "/")+1:]
		name := base
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			t.Errorf("%s: a dot import hides where names come from", fset.Position(spec.Pos()))
		}
		names[name] = base
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != "" {
				fn(fset.Position(s.Pos()), names[x.Name], s.Sel.Name)
			}
		}
		return true
	})
}

// TestOneHolderOfKeys: private signing keys are read, made and used in
// ledger/sign. (verify/checkpoint takes a crypto.Signer that is given to it;
// NKEYs, which only log in, are the business of bus and publish.)
func TestOneHolderOfKeys(t *testing.T) {
	private := map[string][]string{
		"ed25519": {"PrivateKey", "GenerateKey", "Sign", "NewKeyFromSeed"},
		"ecdsa":   {"PrivateKey", "GenerateKey", "Sign", "SignASN1"},
		"x509":    {"ParsePKCS8PrivateKey", "ParseECPrivateKey", "MarshalPKCS8PrivateKey"},
	}
	holders := map[string]bool{}
	for _, p := range ours(t) {
		for _, name := range p.GoFiles {
			selectors(t, filepath.Join(p.Dir, name), func(at token.Position, of, name string) {
				if !slices.Contains(private[of], name) {
					return
				}
				holders[p.short()] = true
				if p.short() != "ledger/sign" && p.short() != "ledger/ledgertest" {
					t.Errorf("%s: %s.%s outside ledger/sign", at, of, name)
				}
			})
		}
	}
	if !holders["ledger/sign"] {
		t.Error("ledger/sign was not looked at")
	}
}

// TestVerifyLinks: what comes into an auditor's hands with verify is a list
// under review, testdata/links/verify. It holds for a browser as well.
func TestVerifyLinks(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("testdata", "links", "verify"))
	if err != nil {
		t.Fatal(err)
	}
	for _, environment := range [][]string{{"CGO_ENABLED=0"}, {"GOOS=js", "GOARCH=wasm"}} {
		linked := map[string]bool{}
		for _, p := range list(t, environment, "-deps", "./verify/...") {
			switch {
			case !p.Standard && !within(p.ImportPath, module):
				linked[p.ImportPath] = true
			case withinAny(p.ImportPath, "net/http", "os/exec", "crypto/tls", "database/sql", "plugin", "os/signal", "os/user"):
				t.Errorf("%v: %s is linked into verify", environment, p.ImportPath)
			}
		}
		var got strings.Builder
		for _, path := range slices.Sorted(maps.Keys(linked)) {
			got.WriteString(path + "\n")
		}
		if got.String() != string(want) {
			t.Errorf("%v: verify links other packages than testdata/links/verify lists; where that is meant, write there:\n%s", environment, got.String())
		}
	}
}

// TestBrowser: verify builds for a browser.
func TestBrowser(t *testing.T) {
	goCommand(t, []string{"GOOS=js", "GOARCH=wasm"}, "build", "./verify/...")
}

// TestDocumented: every package says what it is for.
func TestDocumented(t *testing.T) {
	for _, p := range ours(t) {
		doc := ""
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			doc = cmp.Or(doc, f.Doc.Text())
		}
		first := "Package " + p.Name + " "
		if p.Name == "main" {
			first = "Command " + filepath.Base(p.Dir) + " "
		}
		if !strings.HasPrefix(doc, first) {
			t.Errorf("%s: the package comment begins %.40q, want %q", p.short(), doc, first)
		}
	}
}

// TestTopLevel: the repository's top level is fixed.
func TestTopLevel(t *testing.T) {
	want := []string{
		".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "SECURITY.md",
		"cmd", "collectors", "deploy", "go.mod", "go.sum", "ledger", "verify",
	}
	top := map[string]bool{}
	for _, path := range repositoryFiles(t) {
		name, _, _ := strings.Cut(path, "/")
		top[name] = true
	}
	if got := slices.Sorted(maps.Keys(top)); !slices.Equal(got, want) {
		t.Errorf("the top level is %v\nwant %v", got, want)
	}
	for _, p := range ours(t) {
		for _, name := range strings.Split(p.short(), "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "misc", "internal", "pkg", "types", "models"}, name) {
				t.Errorf("%s: a folder is named for what it is about", p.short())
			}
		}
	}
}

// repositoryFiles lists what git has, or would take; where there is no git, what
// lies there, but for what is built.
func repositoryFiles(t *testing.T) []string {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, ".git")); err == nil {
		cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
		cmd.Dir = root
		if out, err := cmd.Output(); err == nil {
			return strings.Fields(string(out))
		}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "bin" && e.Name() != ".git" {
			names = append(names, e.Name())
		}
	}
	return names
}
