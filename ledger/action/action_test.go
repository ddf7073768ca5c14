package action_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"evidence-ledger/ledger/action"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/sign"
	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/trust"
)

// genesis is a file with a genesis of two admins, signed by the node.
func genesis(t testing.TB) (f *action.File, admins []*sign.Key) {
	t.Helper()
	node := ledgertest.Key(t)
	g := trust.Genesis{
		Origin: ledgertest.Origin, Organisation: "Example",
		Node:   trust.Node{VKey: checkpoint.VKey(ledgertest.Origin, node.Public().Ed25519()), PublicKey: node.Public().String()},
		Admins: trust.Admins{Threshold: 2},
	}
	for _, name := range []string{"alice", "bob"} {
		k := ledgertest.Key(t)
		admins = append(admins, k)
		g.Admins.Keys = append(g.Admins.Keys, trust.Admin{Name: name, PublicKey: k.Public().String()})
	}
	f, err := action.Genesis(g, node, ledgertest.Begin)
	if err != nil {
		t.Fatal(err)
	}
	return f, admins
}

func text(t testing.TB, f *action.File) []byte {
	t.Helper()
	raw, err := f.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestActions: a file survives being read and written, signatures are added and
// none twice, and what is described comes from the payload that is signed.
func TestActions(t *testing.T) {
	f, admins := genesis(t)
	payload := bytes.Clone(f.Actions[0].Payload)
	path := filepath.Join(t.TempDir(), "action.json")
	for i, k := range []*sign.Key{admins[0], admins[1], admins[0]} {
		if err := f.Sign(k); err != nil {
			t.Fatal(err)
		}
		if want := 1 + min(i+1, 2); len(f.Actions[0].Signatures) != want {
			t.Errorf("after %d admins there are %d signatures, want %d", i+1, len(f.Actions[0].Signatures), want)
		}
		if !f.SignedBy(k.Public().ID()) {
			t.Error("it is not known who signed")
		}
		if err := f.Write(path); err != nil {
			t.Fatal(err)
		}
		before := text(t, f)
		var err error
		if f, err = action.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text(t, f), before) || !bytes.Equal(f.Actions[0].Payload, payload) {
			t.Error("the file came back otherwise")
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}

	// Another payload is described as what it is, and the signatures are not its.
	for _, c := range []struct{ old, new, words string }{
		{`"threshold":2`, `"threshold":1`, "1 of these 2 admins must sign"},
		{`"alice"`, `"alina"`, "alina, key "},
		{`"organisation":"Example"`, `"organisation":"Another"`, "of Another\n"},
	} {
		changed := bytes.Replace(payload, []byte(c.old), []byte(c.new), 1)
		again, err := action.Parse(bytes.Replace(text(t, f), base64of(payload), base64of(changed), 1))
		if err != nil {
			t.Fatal(err)
		}
		words, err := again.Describe()
		if err != nil || !strings.Contains(words, c.words) {
			t.Errorf("%v: no %q in\n%s", err, c.words, words)
		}
	}
}

func base64of(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

// TestDescribesItsOwnLedger: the name around the actions is the one in them.
func TestDescribesItsOwnLedger(t *testing.T) {
	f, _ := genesis(t)
	f.Ledger = "ledger.example.org/another"
	if words, err := f.Describe(); err == nil || !strings.Contains(err.Error(), "is for the ledger "+ledgertest.Origin) {
		t.Errorf("%v\n%s", err, words)
	}
}

// TestParseRefuses: what is no action file is refused with the reason.
func TestParseRefuses(t *testing.T) {
	f, _ := genesis(t)
	good := string(text(t, f))
	evidence := ledgertest.NewCollector(t, "web-1", "patch.*").Event("no action")
	for _, c := range []struct{ name, text, why string }{
		{"nothing", "", "not an action file"},
		{"no JSON", "hello", "not an action file"},
		{"cut off", good[:len(good)/2], "not an action file"},
		{"more behind it", good + good, "not an action file"},
		{"an unknown member", strings.Replace(good, `"format"`, `"colour": "green", "format"`, 1), "colour"},
		{"a member twice", strings.Replace(good, `"format"`, `"format": "x", "format"`, 1), "duplicate"},
		{"a member in capitals", strings.Replace(good, `"format"`, `"Format"`, 1), "Format"},
		{"another format", strings.Replace(good, "action@v1", "action@v2", 1), `its format is "evidence-ledger/action@v2"`},
		{"no action", `{"format":"evidence-ledger/action@v1","ledger":"x","actions":[]}`, "has no action"},
		{"another payload type", strings.Replace(good, "vnd.in-toto", "vnd.other", 1), "action 1: no DSSE envelope"},
		{"no base64", strings.Replace(good, `"payload": "`, `"payload": "!`, 1), "action 1: no DSSE envelope"},
		{"no statement", strings.Replace(good, string(base64of(f.Actions[0].Payload)), string(base64of([]byte("{}"))), 1), "action 1: "},
		{"evidence", strings.Replace(good, string(base64of(f.Actions[0].Payload)), string(base64of(evidence.Payload)), 1), "patch.run.completed is no admins' action"},
		{"a signature that is none", strings.Replace(good, `"sig": "`, `"sig": "!`, 1), "action 1: signature of "},
		{"too large", good + strings.Repeat(" ", 1<<20), "at most"},
	} {
		if _, err := action.Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", c.name, err, c.why)
		}
	}
}

// FuzzParse: what is read can be described or is refused, and is written as it
// was read.
func FuzzParse(f *testing.F) {
	file, admins := genesis(f)
	f.Add(text(f, file))
	if err := file.Sign(admins[0]); err != nil {
		f.Fatal(err)
	}
	f.Add(text(f, file))
	file.Actions = append(file.Actions, file.Actions[0])
	f.Add(text(f, file))
	f.Add([]byte(`{"format":"evidence-ledger/action@v1","ledger":"x","actions":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := action.Parse(raw)
		if err != nil {
			return
		}
		written := text(t, first)
		second, err := action.Parse(written)
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, written)
		}
		if !bytes.Equal(text(t, second), written) {
			t.Fatalf("%s\nis written as\n%s", written, text(t, second))
		}
		words, err := second.Describe()
		if err == nil && strings.ContainsFunc(words, func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("the words steer a terminal: %q", words)
		}
		for _, e := range second.Envelopes() {
			if len(e) == 0 {
				t.Fatal("an empty envelope")
			}
		}
	})
}
