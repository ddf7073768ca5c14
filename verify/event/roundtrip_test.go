package event_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"evidence-ledger/verify/event"
)

func digests() *rapid.Generator[[32]byte] {
	return rapid.Custom(func(t *rapid.T) [32]byte {
		d := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		d[0] |= 1 // never all zeros
		return d
	})
}

func times() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		micros := rapid.Int64Range(0, 4_000_000_000).Draw(t, "seconds") * 1_000_000
		if rapid.Bool().Draw(t, "decimals") {
			micros += rapid.Int64Range(0, 999_999).Draw(t, "micros")
		}
		return time.UnixMicro(micros).UTC()
	})
}

func lines() *rapid.Generator[string] { return rapid.StringMatching(`[^\pC]{1,40}`) }

func artifacts() *rapid.Generator[event.Artifact] {
	return rapid.Custom(func(t *rapid.T) event.Artifact {
		return event.Artifact{Name: lines().Draw(t, "name"), SHA256: digests().Draw(t, "sha256")}
	})
}

func periods() *rapid.Generator[*event.Period] {
	return rapid.Custom(func(t *rapid.T) *event.Period {
		from := times().Draw(t, "from")
		to := from.Add(time.Duration(rapid.Int64Range(1, 1_000_000_000).Draw(t, "length")) * time.Microsecond)
		p := &event.Period{From: &from, To: &to}
		if rapid.Bool().Draw(t, "no from") {
			p.From = nil
		}
		if rapid.Bool().Draw(t, "no to") {
			p.To = nil
		}
		return p
	})
}

// events makes what a collector may send.
func events() *rapid.Generator[*event.Event] {
	return rapid.Custom(func(t *rapid.T) *event.Event {
		e := &event.Event{
			Type: "patch.run.completed", Version: 1,
			Subject: rapid.SliceOfN(artifacts(), 1, 4).Draw(t, "subject"),
			ID:      rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`).Draw(t, "id"),
			Ledger:  rapid.StringMatching(`[a-z0-9.-]{1,20}(/[A-Za-z0-9._-]{1,20}){0,2}`).Draw(t, "ledger"), ObservedAt: times().Draw(t, "observedAt"),
			Summary:   lines().Draw(t, "summary"),
			Data:      []byte(fmt.Sprintf(`{"tool":"apt","packages":[{"name":"p"}],"exitStatus":%d}`, rapid.Int64Range(-1<<53, 1<<53).Draw(t, "exitStatus"))),
			Collector: rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`).Draw(t, "collector"),
			Seq:       rapid.Uint64Range(1, 1<<53).Draw(t, "seq"),
			Method:    &event.Method{Name: lines().Draw(t, "name"), Version: lines().Draw(t, "version"), Config: digests().Draw(t, "config")},
			Scope:     rapid.MapOfN(lines(), lines(), 1, 8).Draw(t, "scope"),
			Outcome:   rapid.SampledFrom([]string{"pass", "fail", "info"}).Draw(t, "outcome"),
		}
		if e.Seq > 1 {
			e.Prev = digests().Draw(t, "prev")
		}
		if rapid.Bool().Draw(t, "has period") {
			e.Period = periods().Draw(t, "period")
		}
		if rapid.Bool().Draw(t, "has after") {
			e.After = &event.After{Size: rapid.Uint64Range(1, 1<<53).Draw(t, "size"), Root: digests().Draw(t, "root")}
		}
		if rapid.Bool().Draw(t, "has corrects") {
			e.Corrects = &event.Corrects{Index: rapid.Uint64Range(0, 1<<53).Draw(t, "index"), Reason: lines().Draw(t, "reason")}
		}
		return e
	})
}

// TestRoundTrip: Event -> Payload -> Wrap -> Parse gives the same event, and
// the same bytes again.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := events().Draw(t, "event")
		payload, err := e.Payload()
		if err != nil {
			t.Fatal(err)
		}
		raw := event.Wrap(payload, []event.Signature{{KeyID: keyA, Sig: []byte{1}}})
		got, err := event.Parse(raw, event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Envelope.Raw, raw) || !bytes.Equal(got.Envelope.Payload, payload) {
			t.Fatal("the envelope does not hold the bytes it was read from")
		}
		got.Envelope = nil
		if !reflect.DeepEqual(e, got) {
			t.Fatalf("\n%+v\n%+v", e, got)
		}
	})
}

// TestPayloadRefuses: what Parse would refuse is not written.
func TestPayloadRefuses(t *testing.T) {
	for code, spoil := range map[string]func(*event.Event){
		"event.seq":            func(e *event.Event) { e.Seq = 0 },
		"event.number":         func(e *event.Event) { e.Seq = 1<<53 + 1 },
		"event.member":         func(e *event.Event) { e.Method = nil },
		"event.subject":        func(e *event.Event) { e.Subject = nil },
		"event.predicate-type": func(e *event.Event) { e.Version = 0 },
		"event.time":           func(e *event.Event) { e.ObservedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"event.schema":         func(e *event.Event) { e.Data = []byte(`{}`) },
		"event.payload-size": func(e *event.Event) {
			e.Data = fmt.Appendf(nil, `{"tool":"apt","packages":[],"command":"%050000d"}`, 0)
		},
	} {
		e, err := event.Parse(wrap(good), event.Builtin())
		if err != nil {
			t.Fatal(err)
		}
		spoil(e)
		_, err = e.Payload()
		if want := code + ": "; err == nil || !bytes.HasPrefix([]byte(err.Error()), []byte(want)) {
			t.Errorf("got %v, want %s", err, code)
		}
	}
	e, err := event.Parse(wrap(good), event.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", `{"a":1,"a":2}`} {
		e.Data = []byte(bad)
		if _, err := e.Payload(); err == nil {
			t.Errorf("data %q were written", bad)
		}
	}
	e.Data, e.Summary = []byte(`{"tool":"apt","packages":[]}`), "\xff"
	if _, err := e.Payload(); err == nil {
		t.Error("invalid UTF-8 was written")
	}
}

// TestPayloadCutsTimes: a clock's nanoseconds are no reason to refuse.
func TestPayloadCutsTimes(t *testing.T) {
	e, err := event.Parse(wrap(good), event.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[int]string{999: "07:00:00Z", 1999: "07:00:00.000001Z"} {
		e.ObservedAt = time.Date(2026, 3, 3, 8, 0, 0, in, time.FixedZone("CET", 3600))
		payload, err := e.Payload()
		if err != nil || !bytes.Contains(payload, []byte(`"observedAt":"2026-03-03T`+want)) {
			t.Errorf("%d ns: %v %s", in, err, payload)
		}
	}
}
