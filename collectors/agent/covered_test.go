package agent_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"evidence-ledger/collectors"
)

// TestCovered: a record that another one covers makes no event, also when that
// one went long ago, unless the one that covers it could not be sent.
func TestCovered(t *testing.T) {
	covered := func(key, by string) collectors.Observation { return collectors.Observation{Key: key, CoveredBy: by} }
	s := &source{[]collectors.Observation{observation("1", good), covered("1a", "1"), observation("bad", `{"no":"tool"}`), covered("bad1", "bad"), observation("2", good)}}
	for i := range 700 { // several transactions
		s.observations = append(s.observations, covered(fmt.Sprint("1b", i), "1"))
	}
	dir, a := setUp(t, config(), s)
	if n, err := a.Collect(t.Context(), typ); n != 2 || err == nil {
		t.Fatalf("%d events: %v", n, err)
	}
	s.observations = []collectors.Observation{observation("1a", good), observation("1b0", good), observation("1b699", good), observation("bad1", good)}
	if n, err := a.Collect(t.Context(), typ); n != 1 || err != nil {
		t.Fatalf("%d events: %v", n, err)
	}
	if items := pending(t, dir, a); len(items) != 3 || items[2].Seq != 3 {
		t.Fatalf("%d items", len(items))
	}
}

// TestNothingButBad: a transaction in which no record can become an event does
// not stop those behind it.
func TestNothingButBad(t *testing.T) {
	s := &source{}
	for i := range 10 {
		big := observation(fmt.Sprint("big", i), good)
		big.Artifacts[0].Data = bytes.Repeat([]byte("x"), 1<<20)
		s.observations = append(s.observations, big)
	}
	s.observations = append(s.observations, observation("1", good))
	_, a := setUp(t, config(), s)
	if n, err := a.Collect(t.Context(), typ); n != 1 || err == nil || strings.Count(err.Error(), "record big") != 10 {
		t.Fatalf("%d events: %v", n, err)
	}
}
