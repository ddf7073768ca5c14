package main_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"encoding/json/jsontext"
	"encoding/json/v2"

	"evidence-ledger/collectors/agent"
	"evidence-ledger/ledger/node"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/event"
)

// The two tests below hold the promise that everything else rests on: whatever
// dies at whatever moment, each observed run is in the log exactly once. They
// kill real processes with SIGKILL, which leaves no time to tidy up. Moments and
// amounts come from a seed, which is printed; EVIDENCE_KILL_SEED repeats it.

const (
	killEvents = 2000
	kills      = 10
	patchType  = "patch.run.completed"
)

// TestKillNode kills the node ten times while a collector sends 2,000 events.
func TestKillNode(t *testing.T) {
	r := newRig(t)
	r.startCollector()
	inFlight := 0
	for _, upTo := range r.portions() {
		r.observe(upTo)
		r.collect()
		r.moment()
		r.node.kill()
		inFlight += r.hit(r.committed())
		r.startNode()
	}
	r.finish(inFlight)
}

// TestKillCollector kills the collector ten times on the way from 2,000 stanzas
// of a log to their receipts: while it reads, numbers, publishes or releases.
func TestKillCollector(t *testing.T) {
	r := newRig(t)
	inFlight := 0
	for _, upTo := range r.portions() {
		r.observe(upTo)
		r.startCollector()
		r.moment()
		r.collector.kill()
		inFlight += r.hit(r.size())
	}
	r.startCollector()
	r.finish(inFlight)
}

// rig is a ledger with one collector, all in one folder.
type rig struct {
	*testing.T
	dir             string
	rnd             *rand.Rand
	port            int
	observed        int // stanzas in the log that the collector reads
	node, collector *process
	client          *node.Client // it dials again by itself
}

func newRig(t *testing.T) *rig {
	seed := rand.Uint64()
	if s := os.Getenv("EVIDENCE_KILL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal("EVIDENCE_KILL_SEED:", err)
		}
	}
	t.Logf("EVIDENCE_KILL_SEED=%d", seed)
	r := &rig{T: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(seed, 0))}
	var err error
	if r.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	identity := r.run(0, "ledger", "init", "--origin", "ledger.example.org/evidence", "--organisation", "Example Registry")
	r.write("ledger.identity", identity)
	r.startNode()
	r.run(0, "collector", "init", "web-1", "--ledger", "ledger.identity", "--node", fmt.Sprintf("nats://127.0.0.1:%d", r.port), "--timezone", "UTC", "--host", "web-1.example")
	if err := setConfig(r.path("collector-data"), map[string]any{"sources": map[string][]string{"apt-history": {r.path("history.log")}, "dpkg": {}}}); err != nil {
		t.Fatal(err)
	}
	r.run(0, "ledger", "collector", "enrol", "collector-data/request.json")
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, text string) {
	r.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
}

// run runs a command to its end and returns its standard output.
func (r *rig) run(want int, name string, args ...string) string {
	r.Helper()
	cmd := exec.Command(program(r, name), args...)
	cmd.Dir = r.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if code, _ := exitCode(cmd.Run()); code != want {
		r.Fatalf("%s %s: exit code %d, want %d\n%s%s", name, strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	return out.String()
}

// portions cuts the events into as many parts as there are kills, at random.
func (r *rig) portions() []int {
	cuts := []int{killEvents}
	for len(cuts) < kills {
		if cut := 1 + r.rnd.IntN(killEvents-1); !slices.Contains(cuts, cut) {
			cuts = append(cuts, cut)
		}
	}
	slices.Sort(cuts)
	return cuts
}

// observe makes apt's log longer, up to the given number of stanzas.
func (r *rig) observe(upTo int) {
	r.Helper()
	f, err := os.OpenFile(r.path("history.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	for ; r.observed < upTo; r.observed++ {
		at := time.Date(2025, 1, 1, 0, r.observed, 0, 0, time.UTC)
		_, err := fmt.Fprintf(f, "\nStart-Date: %s\nCommandline: apt-get install evidence\nInstall: evidence:amd64 (%d)\nEnd-Date: %s\n",
			at.Format("2006-01-02  15:04:05"), r.observed, at.Add(20*time.Second).Format("2006-01-02  15:04:05"))
		if err != nil {
			r.Fatal(err)
		}
	}
}

// process is a program that runs in the background.
type process struct {
	*testing.T
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error
}

func (r *rig) start(name string, args ...string) *process {
	r.Helper()
	p := &process{T: r.T, name: name, done: make(chan struct{})}
	var err error
	if p.log, err = os.OpenFile(r.path(name+".log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		r.Fatal(err)
	}
	p.cmd = exec.Command(program(r, name), args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = r.dir, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	r.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		p.log.Close()
	})
	return p
}

// alive stops the test where the process has ended by itself.
func (p *process) alive() {
	p.Helper()
	select {
	case <-p.done:
		p.Fatalf("%s has ended: %v\n%s", p.name, p.err, p.tail())
	default:
	}
}

// tail is the end of its log.
func (p *process) tail() []byte {
	info, err := p.log.Stat()
	if err != nil {
		return nil
	}
	b, _ := io.ReadAll(io.NewSectionReader(p.log, max(0, info.Size()-8000), 8000))
	return b
}

func (p *process) kill() {
	p.Helper()
	p.alive()
	if err := p.cmd.Process.Kill(); err != nil {
		p.Fatal(err)
	}
	<-p.done
}

// stop asks it to end, which it must do cleanly.
func (p *process) stop() {
	p.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.Fatal(err)
	}
	<-p.done
	if p.err != nil {
		p.Errorf("%s does not end cleanly: %v\n%s", p.name, p.err, p.tail())
	}
}

func (r *rig) startNode() {
	r.Helper()
	r.node = r.start("ledger", "serve", "--nats", fmt.Sprintf("127.0.0.1:%d", r.port), "--http", "")
	r.size() // it answers
}

func (r *rig) startCollector() {
	r.Helper()
	r.collector = r.start("collector", "run")
}

// await polls until ok, while both processes live.
func (r *rig) await(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		r.node.alive()
		if r.collector != nil && r.collector.cmd.ProcessState == nil {
			r.collector.alive()
		}
		if time.Now().After(end) {
			r.Fatalf("%s does not come\nnode:\n%s", what, r.node.tail())
		}
	}
}

// size is the number of entries, as the node says.
func (r *rig) size() (size uint64) {
	r.Helper()
	r.await("the node", func() bool {
		if r.client == nil {
			r.client, _ = node.Dial(r.path("ledger-data"))
			return false
		}
		s, err := r.client.Status()
		size = s.Size
		return err == nil
	})
	return size
}

// committed is the number of entries on disk while no node runs.
func (r *rig) committed() uint64 {
	r.Helper()
	v, err := node.Open(r.path("ledger-data"), "")
	if err != nil {
		r.Fatal("after the kill:", err)
	}
	defer v.Close()
	size, err := v.Snapshot.Size()
	if err != nil {
		r.Fatal("after the kill:", err)
	}
	return size
}

// agent is the running collector.
func (r *rig) agent() (client *agent.Client) {
	r.Helper()
	r.await("the collector", func() bool {
		client = agent.Dial(r.path("collector-data"))
		return client != nil
	})
	return client
}

// collect lets the running collector read its sources now.
func (r *rig) collect() {
	r.Helper()
	if _, err := r.agent().Once(r.Context(), patchType, time.Millisecond); err != nil {
		r.Fatal(err)
	}
}

// moment waits for a random one: some time after something began, or, three
// times in four, when a random part of what is on its way has been committed,
// so between two batches of one burst. All of these lie in the middle of
// something: start, connect, read, number, publish, commit, release.
func (r *rig) moment() {
	r.Helper()
	if r.rnd.IntN(4) == 0 {
		time.Sleep(time.Duration(r.rnd.IntN(200)) * time.Millisecond)
		return
	}
	before := r.size()
	target := before + r.rnd.Uint64N(uint64(r.observed)+2-before+1)
	r.await("progress", func() bool { return r.size() >= target })
	time.Sleep(time.Duration(r.rnd.IntN(10_000)) * time.Microsecond)
}

// hit says where a kill came: 1 where it had something to lose.
func (r *rig) hit(entries uint64) int {
	r.Logf("killed with %d of %d events in the log", entries-2, r.observed)
	if entries-2 < uint64(r.observed) {
		return 1
	}
	return 0
}

// finish lets everything settle and looks at the outcome from all sides.
func (r *rig) finish(inFlight int) {
	r.Helper()
	r.Logf("%d of %d kills with events on their way", inFlight, kills)
	if inFlight == 0 {
		r.Error("no kill has hit anything: the moments are badly chosen")
	}
	r.collect()
	var s *agent.Status
	client := r.agent()
	r.await("the last receipt", func() (empty bool) {
		var err error
		s, err = client.Status(r.Context())
		return err == nil && s.Pending == 0
	})
	if s.Refused != 0 || s.Bytes != 0 || s.Conflict != "" || s.Publishing.BadReceipts != 0 {
		r.Errorf("the spool: %+v", s)
	}
	if s.Numbers[patchType] != killEvents || s.Receipts[patchType].Count != killEvents {
		r.Errorf("last number %d with %d receipts, want %d of both", s.Numbers[patchType], s.Receipts[patchType].Count, killEvents)
	}
	r.collector.stop()
	r.node.stop()
	r.exactlyOnce()
	if report := r.run(0, "ledger", "verify", "--identity", "ledger.identity", "--memory", "none"); !strings.Contains(report, fmt.Sprintf("VERIFIED    nothing was changed, dropped, reordered or forged in %d entries", killEvents+2)) {
		r.Error(report)
	}
	if list := r.run(0, "ledger", "quarantine", "list"); strings.Count(list, "\n") != 1 {
		r.Errorf("in quarantine:\n%s", list)
	}
}

// exactlyOnce reads the log: genesis, enrolment, and then each stanza once, each
// id once, each number once.
func (r *rig) exactlyOnce() {
	r.Helper()
	v, err := node.Open(r.path("ledger-data"), "")
	if err != nil {
		r.Fatal(err)
	}
	defer v.Close()
	size, err := v.Snapshot.Size()
	if err != nil || size != killEvents+2 {
		r.Errorf("the log has %d entries, want %d (%v)", size, killEvents+2, err)
	}
	sources, ids, seqs := map[string]uint64{}, map[string]uint64{}, map[uint64]uint64{}
	for i := uint64(2); i < size; i++ {
		raw, err := v.Snapshot.Entry(i)
		if err != nil {
			r.Fatal(err)
		}
		e, err := entry.Parse(raw)
		if err != nil {
			r.Fatal(err)
		}
		ev, err := event.Parse(e.Envelope, event.Builtin())
		if err != nil {
			r.Fatal(err)
		}
		source := r.source(ev.Data)
		for _, other := range []uint64{sources[source], ids[ev.ID], seqs[ev.Seq]} {
			if other != 0 {
				r.Errorf("entries %d and %d: stanza %s, id %s, number %d twice", other, i, source, ev.ID, ev.Seq)
			}
		}
		sources[source], ids[ev.ID], seqs[ev.Seq] = i, i, i
	}
	for n := range killEvents {
		if sources[strconv.Itoa(n)] == 0 {
			r.Errorf("stanza %d is not in the log", n)
		}
		if seqs[uint64(n)+1] == 0 {
			r.Errorf("number %d is not in the log", n+1)
		}
	}
}

// source is the stanza from which an event was made.
func (r *rig) source(data jsontext.Value) string {
	var d struct {
		Packages []struct {
			To string `json:"to"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(data, &d); err != nil || len(d.Packages) != 1 {
		r.Fatalf("%s: %v", data, err)
	}
	return d.Packages[0].To
}
