package event_test

import (
	"bytes"
	"reflect"
	"testing"

	"evidence-ledger/verify/event"
)

// FuzzParseEnvelope: an envelope that parses, wrapped again, is the same
// payload under the same signatures.
func FuzzParseEnvelope(f *testing.F) {
	for _, index := range exampleIndexes {
		f.Add(readExample(f, index))
	}
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		env, err := event.ParseEnvelope(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(env.Raw, raw) {
			t.Fatal("raw differs")
		}
		again, err := event.ParseEnvelope(event.Wrap(env.Payload, env.Signatures))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Payload, env.Payload) || !reflect.DeepEqual(again.Signatures, env.Signatures) {
			t.Fatal("wrapped again it differs")
		}
	})
}

// FuzzParse takes payloads, so that the fuzzer need not guess base64. An event
// that parses is written, and reads as the same event.
func FuzzParse(f *testing.F) {
	for _, index := range exampleIndexes {
		env, err := event.ParseEnvelope(readExample(f, index))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(env.Payload)
	}
	f.Add([]byte(good))
	f.Add([]byte(goodOwn))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := event.Parse(wrap(string(payload)), event.Builtin())
		if err != nil {
			return
		}
		written, err := e.Payload()
		if err != nil {
			t.Fatalf("read but not written: %v\n%s", err, payload)
		}
		again, err := event.Parse(wrap(string(written)), event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		// Data loses its white space when it is written: compare compact.
		if err := e.Data.Compact(); err != nil {
			t.Fatal(err)
		}
		e.Envelope, again.Envelope = nil, nil
		if !reflect.DeepEqual(e, again) {
			t.Fatalf("\n%+v\n%+v", e, again)
		}
	})
}
