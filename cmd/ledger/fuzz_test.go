package main

import (
	"encoding/json/v2"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/verify/event"
	"evidence-ledger/verify/problem"
	"evidence-ledger/verify/trust"
)

// FuzzReadRequest: a request that is read, written again, is the same; and what
// an admin's signature makes of it is taken by the ledger or refused with a
// problem.
func FuzzReadRequest(f *testing.F) {
	l := ledgertest.Create(f, "ledger", vfs.NewMem())
	f.Cleanup(l.Close)
	f.Add(request(f, l, ledgertest.NewCollector(f, "web-1", "patch.*")))
	f.Add(request(f, l, ledgertest.NewCollector(f, "node", "ledger.verified")))
	f.Add([]byte(`{"basis":"x"}`))
	f.Add([]byte(`{"name":"web-1","types":null,"validFrom":"2026-11-24T20:00:00.000000Z"}`))
	f.Add([]byte("{\"name\":\"\x1b[2J\"}"))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		data, err := parseRequest(raw)
		if err != nil {
			return
		}
		written, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRequest(written)
		if err != nil || !reflect.DeepEqual(normal(*again), normal(*data)) {
			t.Fatalf("written again it is %+v, %v, before %+v", again, err, data)
		}
		signed := *data
		signed.Basis = fmt.Sprintf("%x", l.State().Basis())
		envelope, err := ledger.Own(trust.TypeEnrolled, ledgertest.Origin, "a request", signed, ledgertest.Begin, l.Admin)
		if err != nil {
			return // what is no event is not signed
		}
		ev, err := event.Parse(envelope, event.Builtin())
		if err != nil {
			t.Fatalf("signed, and cannot be read: %v", err)
		}
		next, err := l.State().Next(1, ev)
		if err != nil {
			if problem.Of(err) == nil {
				t.Fatalf("refused without a problem: %v", err)
			}
			return
		}
		if e := next.Enrolments(); len(e) != 1 || e[0].Name != data.Name || e[0].Key.String() != data.PublicKey || !reflect.DeepEqual(e[0].Types, data.Types) {
			t.Fatalf("asked for %+v, got %+v", data, e)
		}
	})
}

// request is what `collector init` writes.
func request(f *testing.F, l *ledgertest.Ledger, c *ledgertest.Collector) []byte {
	ev, err := event.Parse(ledgertest.Enrolment(f, l.State(), l.Admin, c, ledgertest.Begin), event.Builtin())
	if err != nil {
		f.Fatal(err)
	}
	data := trust.Enrolled{}
	if err := json.Unmarshal(ev.Data, &data); err != nil {
		f.Fatal(err)
	}
	data.Basis = ""
	raw, err := json.Marshal(data)
	if err != nil {
		f.Fatal(err)
	}
	return []byte(strings.Replace(string(raw), `"basis":"",`, "", 1))
}

// normal: a list that is absent is written as an empty one.
func normal(e trust.Enrolled) trust.Enrolled {
	if len(e.Types) == 0 {
		e.Types = nil
	}
	return e
}
