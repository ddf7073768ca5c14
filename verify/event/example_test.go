package event_test

import (
	"bytes"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"testing"

	"evidence-ledger/verify/event"
	"evidence-ledger/verify/key"
)

// readExample returns an envelope of the worked example, which a second
// implementation wrote.
func readExample(t testing.TB, index string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "example-"+index+".dsse.json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var exampleIndexes = []string{"0", "1", "2", "3", "6"}

// exampleKeys reads the keys by key ID out of the example's trust events.
func exampleKeys(t *testing.T) map[string]*key.Public {
	t.Helper()
	var genesis struct {
		Node struct {
			PublicKey string `json:"publicKey"`
		} `json:"node"`
		Admins struct {
			Keys []struct {
				PublicKey string `json:"publicKey"`
			} `json:"keys"`
		} `json:"admins"`
	}
	var enrolled struct {
		PublicKey string `json:"publicKey"`
	}
	for index, into := range map[string]any{"0": &genesis, "1": &enrolled} {
		e, err := event.Parse(readExample(t, index), event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(e.Data, into); err != nil {
			t.Fatal(err)
		}
	}
	encoded := []string{genesis.Node.PublicKey, enrolled.PublicKey}
	for _, k := range genesis.Admins.Keys {
		encoded = append(encoded, k.PublicKey)
	}
	keys := map[string]*key.Public{}
	for _, s := range encoded {
		k, err := key.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		keys[k.ID()] = k
	}
	return keys
}

func TestExample(t *testing.T) {
	keys := exampleKeys(t)
	for _, index := range exampleIndexes {
		raw := readExample(t, index)
		e, err := event.Parse(raw, event.Builtin())
		if err != nil {
			t.Errorf("entry %s: %v", index, err)
			continue
		}
		for i, s := range e.Envelope.Signatures {
			k := keys[s.KeyID]
			if k == nil {
				t.Fatalf("entry %s: key %s is not in the example", index, s.KeyID)
			}
			if err := e.Envelope.VerifySignature(i, k); err != nil {
				t.Errorf("entry %s: %v", index, err)
			}
		}
		payload, err := e.Payload()
		if err != nil || !bytes.Equal(payload, e.Envelope.Payload) {
			t.Errorf("entry %s: written again it differs: %v\n%s\n%s", index, err, payload, e.Envelope.Payload)
		}
		if again := event.Wrap(payload, e.Envelope.Signatures); !bytes.Equal(again, raw) {
			t.Errorf("entry %s: wrapped again it differs:\n%s\n%s", index, again, raw)
		}
	}
}

func TestExampleFields(t *testing.T) {
	first, err := event.Parse(readExample(t, "2"), event.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	second, err := event.Parse(readExample(t, "3"), event.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if first.Seq != 1 || second.Seq != 2 || second.Prev != first.Envelope.PayloadSHA256() {
		t.Error("the second event does not follow the first")
	}
	if first.After != nil || second.After == nil || second.After.Size != 3 {
		t.Errorf("after is %v, then %v", first.After, second.After)
	}
	if second.Type != "patch.run.completed" || second.Version != 1 || second.Own() {
		t.Errorf("type %s v%d", second.Type, second.Version)
	}
}
