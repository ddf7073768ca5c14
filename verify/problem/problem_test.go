package problem_test

import (
	"encoding/json/v2"
	"reflect"
	"testing"

	"evidence-ledger/verify/problem"
)

// TestJSON: what is written is read as the same, with and without an entry.
func TestJSON(t *testing.T) {
	none := problem.New("event.schema", "predicate.data.tool", "%s is wrong", "it").With("is", "apk")
	for _, want := range []*problem.Problem{none, problem.Of(problem.At(0, none)), problem.Of(problem.At(7, none))} {
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := new(problem.Problem)
		if err := json.Unmarshal(raw, got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %+v, want %+v", raw, got, want)
		}
	}
	if err := json.Unmarshal([]byte(`{"code":1}`), new(problem.Problem)); err == nil {
		t.Error("a code that is a number is read")
	}
}
