package verify_test

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/entry"
	"evidence-ledger/verify/trust"
)

// at lists the events of a log a second apart, as the small log has them.
func at(envelopes ...[]byte) trustIn {
	var in trustIn
	for i, e := range envelopes {
		in.Events = append(in.Events, timedEvent{fmt.Sprintf("2026-03-01T10:00:%02d.000000Z", i), e})
	}
	return in
}

func makeTrust(c *collection) {
	begin := sealed(genesis, nodeKey, alice, bob)
	enrol := sealed(enrolWeb1, alice, bob)
	run := sealed(run1, web1)
	c.good("genesis", at(begin))
	c.good("genesis by the node and a quorum", at(sealed(edit(genesis, `"threshold":2`, `"threshold":1`), nodeKey, bob)))
	c.good("a collector", at(begin, enrol, run))
	c.good("a time that is bounded", at(begin, enrol, sealed(enrolDB1, alice, bob), run, run, run, run, sealed(runDB1, db1), sealed(runDB1, db1)))
	c.good("the node", at(begin, sealed(reject4, nodeKey)))
	auditor := enrolPayload(1, genesis, "officer-1", second, "")
	c.good("an auditor may sign ledger.verified", at(begin, sealed(edit(auditor, `["patch.*"]`, `["ledger.verified"]`), alice, bob)))

	makeGenesis(c)
	makeEnrolments(c, begin, enrol)
	makeAuthority(c, begin, enrol)
	makeRevocations(c, begin, enrol)
	makeRotations(c, begin, enrol)
	makeAdmins(c, begin, enrol)
}

func makeGenesis(c *collection) {
	c.bad("T1", "predicateType", "a log that begins with an enrolment", at(sealed(enrolWeb1, alice, bob)))
	p256 := edit(genesis, `"publicKey":"`+nodeKey.public.String(), `"publicKey":"`+db1.public.String())
	for _, x := range []struct {
		rule, where, why, payload string
		keys                      []testKey
	}{
		{"T2", "predicate.event.ledger", "for another ledger", edit(genesis, `"ledger":"ledger.example.org`, `"ledger":"other.example.org`), nil},
		{"T3", "subject", "another subject", edit(edit(genesis, `"name":"`+vectorOrigin, `"name":"x`), hexSum([]byte(vectorOrigin)), ones64), nil},
		{"T3", "subject", "another subject beside the origin", edit(genesis, `"subject":[`, `"subject":[{"name":"x","digest":{"sha256":"`+ones64+`"}},`), nil},
		{"T4", "predicate.data.node.vkey", "the verifier key of another key", edit(genesis, vkeyOf(nodeKey), vkeyOf(stranger)), nil},
		{"T4", "predicate.data.node.vkey", "a verifier key of another name", edit(genesis, vkeyOf(nodeKey), checkpoint.VKey("other.example.org", nodeKey.public.Ed25519())), nil},
		{"T17", "predicate.data.node.publicKey", "a node's key that is not Ed25519", p256, nil},
		{"K2", "predicate.data.node.publicKey", "a node's key that is none", edit(genesis, `"publicKey":"`+nodeKey.public.String(), `"publicKey":"AAAA`), nil},
		{"T5", "predicate.data.admins.keys.1.name", "two admins of one name", edit(genesis, `"name":"bob"`, `"name":"alice"`), nil},
		{"T6", "predicate.data.admins.keys.1.publicKey", "one key for two admins", edit(genesis, bob.public.String(), alice.public.String()), nil},
		{"T6", "predicate.data.admins.keys.0.publicKey", "the node's key for an admin", edit(genesis, alice.public.String(), nodeKey.public.String()), nil},
		{"T7", "predicate.data.admins.threshold", "more than there are admins", edit(genesis, `"threshold":2`, `"threshold":3`), nil},
		{"T8", "signatures.%s.keyid", "a stranger's signature beside", genesis, []testKey{nodeKey, alice, bob, stranger}},
		{"T9", "signatures", "one admin of two", genesis, []testKey{nodeKey, alice}},
		{"T10", "signatures", "not by the node", genesis, []testKey{alice, bob}},
	} {
		if x.keys == nil {
			x.keys = []testKey{nodeKey, alice, bob}
		}
		c.bad(x.rule, placeOf(x.where, stranger, x.keys), x.why, at(sealed(x.payload, x.keys...)))
	}
}

// placeOf puts the place of k's signature among keys, by key ID, into where.
func placeOf(where string, k testKey, keys []testKey) string {
	n := 0
	for _, other := range keys {
		if other.public.ID() < k.public.ID() {
			n++
		}
	}
	return strings.Replace(where, "%s", fmt.Sprint(n), 1)
}

func makeEnrolments(c *collection, begin, enrol []byte) {
	both := []testKey{alice, bob}
	possession := func(name string, k testKey, origin string) string {
		return b64(k.sign(trust.PossessionMessage(origin, name, k.public.ID())))
	}
	right := possession("web-1", web1, vectorOrigin)
	weak := b64(append(bytes.Clone(alice.public.DER()[:12]), append([]byte{1}, make([]byte, 31)...)...))
	bounded := enrolPayload(1, genesis, "web-1", web1, `,"validFrom":"2026-03-01T10:00:07.000000Z","validUntil":"2026-03-01T10:00:09.000000Z"`)
	for _, x := range []struct {
		rule, where, why, payload string
		keys                      []testKey
	}{
		{"T2", "predicate.event.ledger", "for another ledger", edit(enrolWeb1, `"ledger":"ledger.example.org`, `"ledger":"other.example.org`), nil},
		{"T3", "subject", "another subject", edit(edit(enrolWeb1, `"name":"`+vectorOrigin, `"name":"x`), hexSum([]byte(vectorOrigin)), ones64), nil},
		{"T6", "predicate.data.publicKey", "an admin's key", enrolPayload(1, genesis, "web-1", alice, ""), nil},
		{"T8", "signatures.%s.keyid", "a stranger's signature beside", enrolWeb1, []testKey{alice, bob, stranger}},
		{"T8", "signatures.%s.keyid", "the node is no admin", enrolWeb1, []testKey{alice, bob, nodeKey}},
		{"T9", "signatures", "one admin of two", enrolWeb1, []testKey{bob}},
		{"T11", "predicateType", "a second genesis", genesis, nil},
		{"T12", "predicate.data.basis", "signed on another state", edit(enrolWeb1, hexSum([]byte(genesis)), ones64), nil},
		{"T13", "predicate.data.name", "the name node", enrolPayload(1, genesis, "node", web1, ""), nil},
		{"K7", "predicate.data.publicKey", "a key of small order", edit(enrolWeb1, web1.public.String(), weak), nil},
		{"T14", "predicate.data.possession", "possession of another name", edit(enrolWeb1, right, possession("web-2", web1, vectorOrigin)), nil},
		{"T14", "predicate.data.possession", "possession in another ledger", edit(enrolWeb1, right, possession("web-1", web1, "other.example.org")), nil},
		{"T14", "predicate.data.possession", "possession of another key", edit(enrolWeb1, right, possession("web-1", second, vectorOrigin)), nil},
		{"T14", "predicate.data.possession", "no base64", edit(enrolWeb1, right, strings.TrimRight(right, "=")), nil},
		{"T15", "predicate.data.types.1", "all types of the ledger", edit(enrolWeb1, `["patch.*"]`, `["patch.*","ledger.*"]`), nil},
		{"T15", "predicate.data.types.0", "a type of trust", edit(enrolWeb1, `["patch.*"]`, `["trust.genesis"]`), nil},
		{"T16", "predicate.data.validUntil", "an end before the beginning", edit(bounded, "10:00:09", "10:00:06"), nil},
		{"T16", "predicate.data.validUntil", "no time between", edit(bounded, "10:00:09", "10:00:07"), nil},
		{"T18", "predicate.data.validFrom", "a leap second has no time", edit(bounded, "2026-03-01T10:00:07", "2016-12-31T23:59:60"), nil},
		{"T18", "predicate.data.validUntil", "a leap second has no time", edit(bounded, "2026-03-01T10:00:09", "2016-12-31T23:59:60"), nil},
	} {
		if x.keys == nil {
			x.keys = both
		}
		who := stranger
		if len(x.keys) == 3 {
			who = x.keys[2]
		}
		c.bad(x.rule, placeOf(x.where, who, x.keys), x.why, at(begin, sealed(x.payload, x.keys...)))
	}
	c.bad("T12", "predicate.data.basis", "an action that was there before", at(begin, enrol, enrol))
	c.bad("T6", "predicate.data.publicKey", "a key again, under another name", at(begin, enrol, sealed(enrolPayload(2, enrolWeb1, "web-2", web1, ""), both...)))
	forged := edit(string(enrol), `"sig":"`, `"sig":"AAAA`)
	c.bad("E13", "signatures.0", "a signature that does not verify", at(begin, data(forged)))
}

func makeAuthority(c *collection, begin, enrol []byte) {
	enrolDB := sealed(enrolDB1, alice, bob)
	run := sealed(run1, web1)
	bounded := func(n int) trustIn { // the last event has time n
		list := [][]byte{begin, enrol, enrolDB}
		for len(list) < n {
			list = append(list, run)
		}
		return at(append(list, sealed(runDB1, db1))...)
	}
	c.bad("A1", "predicate.event.ledger", "for another ledger", at(begin, enrol, sealed(edit(run1, `"ledger":"ledger.example.org`, `"ledger":"other.example.org`), web1)))
	c.bad("A3", "signatures.0.keyid", "the node's event by a collector", at(begin, enrol, sealed(reject4, web1)))
	c.bad("A3", "signatures.0.keyid", "the node's event by an admin", at(begin, sealed(reject4, alice)))
	c.bad("A4", "subject", "another subject", at(begin, sealed(edit(edit(reject4, `"name":"`+vectorOrigin, `"name":"x`), hexSum([]byte(vectorOrigin)), ones64), nodeKey)))
	c.bad("A5", "signatures.0.keyid", "a stranger's key", at(begin, enrol, sealed(run1, stranger)))
	c.bad("A5", "signatures.0.keyid", "the key of another collector", at(begin, enrol, enrolDB, sealed(run1, db1)))
	c.bad("A5", "signatures.0.keyid", "before the key was enrolled", at(begin, run, enrol))
	c.bad("A5", "signatures.0.keyid", "the node's key for a collector's event", at(begin, enrol, sealed(run1, nodeKey)))
	c.bad("A6", "predicate.event.collector", "before validFrom", bounded(6))
	c.bad("A7", "predicate.event.collector", "at validUntil", bounded(9))
	backup := edit(enrolWeb1, `["patch.*"]`, `["patch.run","backup.*"]`)
	c.bad("A8", "predicateType", "a type that is not among its types", at(begin, sealed(backup, alice, bob), run))
	c.bad("E13", "signatures.0", "a collector's signature that does not verify", at(begin, enrol, data(edit(string(run), `"sig":"`, `"sig":"AAAA`))))
	c.bad("E13", "signatures.0", "the node's signature that does not verify", at(begin, data(edit(string(sealed(reject4, nodeKey)), `"sig":"`, `"sig":"AAAA`))))
}

// logs makes vectors of kind log on one base.
type logs struct {
	*collection
	base string
	size int
}

func (l *logs) bad(rule, why string, in *logCase, problems ...logProblem) {
	in.Base = l.base
	v := &vector{Name: fmt.Sprintf("%s-%d", rule, len(l.Vectors)), Rule: rule, Expect: l.code(rule), Why: why, In: jsonOf(in), Problems: problems, Verdict: "problems"}
	l.Vectors = append(l.Vectors, v)
}

func (l *logs) good(why, verdict string, in *logCase) {
	in.Base = l.base
	l.Vectors = append(l.Vectors, &vector{Name: fmt.Sprintf("good-%d", len(l.Vectors)), Why: why, In: jsonOf(in), Problems: []logProblem{}, Verdict: verdict})
}

// with is the base's entries with some of them replaced.
func (l *logs) with(changed map[int]item) *logCase {
	in := &logCase{}
	for i := range l.size {
		it, ok := changed[i]
		if !ok {
			it = item{base: &i}
		}
		in.Entries = append(in.Entries, it)
	}
	return in
}

// order is the base's entries in another order.
func order(indexes ...int) *logCase {
	in := &logCase{}
	for _, i := range indexes {
		in.Entries = append(in.Entries, item{base: &i})
	}
	return in
}

func bytesOf(s string) item { return item{data: data(s)} }

// flipped is raw with another letter within the base64 of its first signature,
// so that only the signature is wrong.
func flipped(raw []byte) item {
	s := bytes.Clone(raw)
	i := bytes.LastIndex(s, []byte(`"sig":"`)) + 30
	if s[i]++; s[i] == 'Z'+1 || s[i] == 'z'+1 || s[i] == '9'+1 || s[i] < '0' || s[i] == '0' {
		s[i] = 'A'
	}
	return item{data: s}
}

func makeLogs(c *collection) {
	b := smallLog()
	base := b.done()
	c.Logs = map[string]*logCase{"small": base}
	l := &logs{c, "small", len(base.Entries)}
	none := ""
	l.good("a log", "verified", &logCase{})
	l.good("a log without an identity", "unvouched", &logCase{Identity: &none})
	floor := *base.Identity + " 4 " + rootAt(b, 4)
	l.good("a floor, and a note that somebody kept", "verified", &logCase{Identity: &floor, Known: []known{{"a witness", base.Checkpoints[2].Note}}})
	makeTampered(l, b)
	makeDisorder(l, b)
	makeHeads(l, b)
	makeForged(l, b)
	makeLogArtifacts(l)
	gone := l.with(map[int]item{2: {absent: true}, 3: {absent: true}, 4: {absent: true}, 5: {absent: true}})
	gone.Known = []known{{"a witness", base.Checkpoints[2].Note}}
	l.bad("L2", "four entries are gone, of which a note speaks that somebody kept", gone, logProblem{"log.missing", 2, ""})
}

func rootAt(b *builder, size int) string {
	n := newBuilder()
	for _, e := range b.entries[:size] {
		n.put(e)
	}
	return n.head().Root.String()
}

// makeTampered: bytes were changed on the disk.
func makeTampered(l *logs, b *builder) {
	raw := func(i int) string { return string(b.entries[i].Raw) }
	l.bad("L3", "a signature in the middle was changed", l.with(map[int]item{3: flipped(b.entries[3].Raw)}),
		logProblem{"entry.changed", 3, ""}, logProblem{"event.signature", 3, "signatures.0"})
	l.bad("L3", "an entry in the middle was changed and signed by the thief of the collector's key", l.with(map[int]item{
		3: bytesOf(edit(raw(3), string(b.entries[3].Envelope), string(sealed(edit(run2, `"pass"`, `"fail"`), web1))))}),
		logProblem{"entry.changed", 3, ""}, logProblem{"collector.prev", 5, "predicate.event.prev"})
	l.bad("L3", "the genesis was changed", l.with(map[int]item{0: bytesOf(edit(raw(0), "time 2026-03-01T10:00:00", "time 2026-03-01T09:00:00"))}),
		logProblem{"entry.changed", 0, ""}, logProblem{"identity.genesis", 0, ""})
	l.bad("L3", "the hash of the entry before was changed", l.with(map[int]item{4: bytesOf(edit(raw(4), fmt.Sprintf("previous %x", leafOf(b, 3)), "previous "+ones64))}),
		logProblem{"entry.changed", 4, ""}, logProblem{"entry.previous", 4, "previous"})
	l.bad("L3", "rubbish in the middle", l.with(map[int]item{4: bytesOf("rubbish")}),
		logProblem{"entry.changed", 4, ""}, logProblem{"entry.header", 4, "header"})
	l.bad("L3", "a space after an entry", l.with(map[int]item{2: bytesOf(raw(2) + " ")}),
		logProblem{"entry.changed", 2, ""}, logProblem{"event.envelope-bounds", 2, ""}, logProblem{"collector.gap", 3, "predicate.event.seq"})
	l.bad("L3", "two entries were changed", l.with(map[int]item{2: flipped(b.entries[2].Raw), 5: flipped(b.entries[5].Raw)}),
		logProblem{"entry.changed", 2, ""}, logProblem{"event.signature", 2, "signatures.0"},
		logProblem{"entry.changed", 5, ""}, logProblem{"event.signature", 5, "signatures.0"})
	l.bad("L4", "the last entry was changed", l.with(map[int]item{7: flipped(b.entries[7].Raw)}),
		logProblem{"event.signature", 7, "signatures.0"}, logProblem{"log.root", 7, "checkpoint 8"})
	l.bad("L1", "an entry cannot be read", l.with(map[int]item{4: {unreadable: "open"}}), logProblem{"log.unreadable", 4, ""})
	l.bad("L1", "a collector's entry cannot be read", l.with(map[int]item{3: {unreadable: "open"}}),
		logProblem{"log.unreadable", 3, ""}, logProblem{"collector.gap", 5, "predicate.event.seq"})
	l.bad("L1", "an entry cannot be read, and the one after it is rubbish", l.with(map[int]item{3: {unreadable: "open"}, 4: bytesOf("rubbish")}),
		logProblem{"log.unreadable", 3, ""}, logProblem{"entry.header", 4, "header"}, logProblem{"collector.gap", 5, "predicate.event.seq"})
	l.bad("N15", "an entry cannot be read, and the one after it has another index", l.with(map[int]item{3: {unreadable: "open"}, 4: bytesOf(edit(raw(4), "index 4", "index 6"))}),
		logProblem{"log.unreadable", 3, ""}, logProblem{"entry.index", 4, "index"}, logProblem{"entry.changed", 4, ""}, logProblem{"collector.gap", 5, "predicate.event.seq"})
	l.bad("L1", "the last entry cannot be read", l.with(map[int]item{7: {unreadable: "open"}}),
		logProblem{"log.unreadable", 7, ""})
}

// makeDisorder: entries are gone, swapped, or made anew without a signature.
func makeDisorder(l *logs, b *builder) {
	l.bad("L2", "an entry is gone", l.with(map[int]item{4: {absent: true}}), logProblem{"log.missing", 4, ""})
	l.bad("L2", "two entries are gone", l.with(map[int]item{3: {absent: true}, 4: {absent: true}}),
		logProblem{"log.missing", 3, ""}, logProblem{"collector.gap", 5, "predicate.event.seq"})
	l.bad("L2", "the genesis is gone", l.with(map[int]item{0: {absent: true}}), logProblem{"log.missing", 0, ""})
	l.bad("L5", "the last entry is gone", order(0, 1, 2, 3, 4, 5, 6), logProblem{"log.truncated", -1, "checkpoint 8"})
	l.bad("L5", "all entries but two are gone", order(0, 1), logProblem{"log.truncated", -1, "checkpoint 4"})
	l.bad("N15", "an entry was cut out", order(0, 1, 2, 3, 5, 6, 7),
		logProblem{"entry.index", 4, "index"}, logProblem{"log.root", 4, "checkpoint 5"}, logProblem{"log.truncated", -1, "checkpoint 8"})
	l.bad("N15", "the genesis was cut out", order(1, 2, 3, 4, 5, 6, 7),
		logProblem{"entry.index", 0, "index"}, logProblem{"trust.genesis-first", 0, "predicateType"})
	l.bad("N15", "two entries were swapped", order(0, 1, 3, 2, 4, 5, 6, 7),
		logProblem{"entry.index", 2, "index"}, logProblem{"entry.index", 3, "index"}, logProblem{"entry.previous", 4, "previous"}, logProblem{"log.root", 3, "checkpoint 4"})
	l.bad("N15", "an entry is there twice", order(0, 1, 2, 3, 3, 4, 5, 6, 7),
		logProblem{"entry.index", 4, "index"}, logProblem{"event.id-repeated", 4, "predicate.event.id"}, logProblem{"collector.seq-repeated", 4, "predicate.event.seq"},
		logProblem{"log.root", 4, "checkpoint 5"}, logProblem{"log.unsigned", 8, ""})
	header := func(i int, old, new string) *logCase {
		return l.with(map[int]item{i: bytesOf(edit(string(b.entries[i].Raw), old, new))})
	}
	l.bad("N16", "the time was set back", header(4, "time 2026-03-01T10:00:04", "time 2026-03-01T10:00:02"),
		logProblem{"entry.changed", 4, ""}, logProblem{"entry.time", 4, "time"})
	l.bad("N16", "the time was set forward", header(4, "time 2026-03-01T10:00:04", "time 2026-03-01T10:00:06"),
		logProblem{"entry.changed", 4, ""}, logProblem{"entry.time", 5, "time"})
	l.bad("N18", "a number of the stream is there twice", header(5, "completed 2", "completed 1"),
		logProblem{"entry.changed", 5, ""}, logProblem{"entry.stream-number", 5, "stream"})
	l.bad("N14", "the stream is not the type's", header(4, "stream ledger.rejections", "stream ledger.sealed"),
		logProblem{"entry.changed", 4, ""}, logProblem{"entry.stream", 4, "stream"})
}

// makeHeads: checkpoints were taken away, forged, or contradict.
func makeHeads(l *logs, b *builder) {
	rows := l.Logs["small"].Checkpoints // of 2, 4, 5, 8
	list := func(i int, r row) *logCase {
		in := &logCase{Checkpoints: append([]row(nil), rows...)}
		in.Checkpoints[i] = r
		return in
	}
	l.bad("L6", "the newest checkpoint is gone", &logCase{Checkpoints: rows[:3]}, logProblem{"log.unsigned", 5, ""})
	l.bad("L6", "there is no checkpoint", &logCase{Checkpoints: []row{}}, logProblem{"log.unsigned", 0, ""})
	l.bad("C11", "a checkpoint by another key", list(1, row{Size: 4, Note: noteBy(checkpointAt(b, 4), stranger)}), logProblem{"checkpoint.unsigned", -1, "checkpoint 4"})
	l.bad("C11", "the newest checkpoint by another key", list(3, row{Size: 8, Note: noteBy(checkpointAt(b, 8), stranger)}),
		logProblem{"checkpoint.unsigned", -1, "checkpoint 8"})
	l.bad("C7", "a checkpoint that is none", list(1, row{Size: 4, Note: data("\xff")}), logProblem{"checkpoint.note", -1, "checkpoint 4"})
	l.bad("C15", "a checkpoint under another size", list(2, row{Size: 5, Note: rows[1].Note}), logProblem{"checkpoint.row", -1, "checkpoint 5"})
	foreign := checkpointAt(b, 5)
	foreign.Root = checkpointAt(b, 4).Root
	l.bad("L4", "the node signed another root", list(2, row{Size: 5, Note: noteBy(foreign, nodeKey)}), logProblem{"log.root", 4, "checkpoint 5"})
	l.bad("L17", "the checkpoints cannot be read to their end", list(3, row{Size: 8, Unreadable: true}), logProblem{"log.checkpoints-unreadable", -1, ""}, logProblem{"log.unsigned", 5, ""})
	l.bad("L5", "a checkpoint beyond the end", &logCase{Checkpoints: append(append([]row(nil), rows...), row{Size: 9, Note: data("\xff")})}, logProblem{"log.truncated", -1, "checkpoint 9"})

	l.bad("L8", "a note that somebody kept has another root", &logCase{Known: []known{{"a witness", noteBy(foreign, nodeKey)}}}, logProblem{"log.fork", -1, "a witness"})
	floor := *l.Logs["small"].Identity + " 5 " + foreign.Root.String()
	l.bad("L8", "the floor has another root", &logCase{Identity: &floor}, logProblem{"log.fork", -1, "the identity line"})
	beyond := checkpointAt(b, 8)
	beyond.Size = 9
	l.bad("L9", "a note that somebody kept goes beyond the end", &logCase{Known: []known{{"a witness", noteBy(beyond, nodeKey)}}}, logProblem{"log.rollback", -1, "a witness"})
	floor9 := *l.Logs["small"].Identity + " 9 " + foreign.Root.String()
	l.bad("L9", "the floor goes beyond the end", &logCase{Identity: &floor9}, logProblem{"log.rollback", -1, "the identity line"})
	l.bad("L7", "a note by another key", &logCase{Known: []known{{"a witness", noteBy(foreign, stranger)}}}, logProblem{"log.known-note", -1, "a witness"})
	l.bad("L7", "no note", &logCase{Known: []known{{"a witness", data("x")}}}, logProblem{"log.known-note", -1, "a witness"})

	id := *l.Logs["small"].Identity
	other := strings.ReplaceAll(edit(id, vkeyOf(nodeKey), checkpoint.VKey("other.example.org", nodeKey.public.Ed25519())), "@v1 "+vectorOrigin, "@v1 other.example.org")
	l.bad("I5", "another ledger", &logCase{Identity: &other}, logProblem{"identity.origin", 0, "predicate.data.origin"})
	key := edit(id, vkeyOf(nodeKey), vkeyOf(stranger))
	l.bad("I6", "another key of the node", &logCase{Identity: &key}, logProblem{"identity.vkey", 0, "predicate.data.node.vkey"})
	genesis := edit(id, fmt.Sprintf("%x", leafOf(b, 0)), ones64)
	l.bad("I7", "another genesis", &logCase{Identity: &genesis}, logProblem{"identity.genesis", 0, ""})
}

func checkpointAt(b *builder, size int) checkpoint.Checkpoint {
	n := newBuilder()
	for _, e := range b.entries[:size] {
		n.put(e)
	}
	return n.head()
}

// whole is a log of its own, with nothing of the base but the artifacts.
func whole(b *builder) *logCase {
	in := b.sign().done()
	in.Tiles = nil
	return in
}

// makeForged: the node itself appended and signed what it must not.
func makeForged(l *logs, b *builder) {
	begin := func() *builder {
		n := newBuilder()
		n.put(b.entries[0]).put(b.entries[1])
		return n
	}
	run := func(n *builder, payload string, keys ...testKey) *builder {
		return n.add(typeRun, sealed(payload, keys...))
	}
	n := run(begin(), run1, web1)
	run(n, edit(run2, uuid(3), uuid(2)), web1)
	l.bad("L10", "an event id is there twice", whole(n), logProblem{"event.id-repeated", 3, "predicate.event.id"})
	n = run(run(begin(), run1, web1), runPayload(3, "web-1", 1, ""), web1)
	l.bad("Q1", "a number is there twice", whole(n), logProblem{"collector.seq-repeated", 3, "predicate.event.seq"})
	n = run(run(run(begin(), run1, web1), run3, web1), edit(run3, uuid(5), uuid(6)), web1)
	l.bad("Q1", "a number is there twice before its time", whole(n), logProblem{"collector.seq-repeated", 4, "predicate.event.seq"}, logProblem{"collector.gap", 3, "predicate.event.seq"})
	n = run(run(begin(), run1, web1), edit(run2, hexSum([]byte(run1)), ones64), web1)
	l.bad("Q2", "a number that does not follow", whole(n), logProblem{"collector.prev", 3, "predicate.event.prev"})
	n = run(run(begin(), run1, web1), run3, web1)
	l.bad("Q3", "a number never came", whole(n), logProblem{"collector.gap", 3, "predicate.event.seq"})
	early := whole(run(run(begin(), run1, web1), run3, web1))
	early.Now = "2026-03-01T11:00:03Z"
	l.good("a number may come within an hour", "verified", early)
	l.good("numbers may come out of order", "verified", whole(run(run(run(begin(), run2, web1), run3, web1), run1, web1)))
	l.bad("A5", "a stranger's event", whole(run(run(begin(), run1, web1), runPayload(3, "web-9", 1, ""), stranger)),
		logProblem{"authority.key", 3, "signatures.0.keyid"}, logProblem{"artifact.missing", 3, "subject.0"})
	l.bad("T12", "an action that counts no longer", whole(begin().add(trust.TypeEnrolled, sealed(enrolPayload(2, genesis, "web-2", second, ""), alice, bob))),
		logProblem{"trust.basis", 2, "predicate.data.basis"})
	l.bad("T1", "a log without a genesis", whole(newBuilder().add(typeReject, sealed(reject4, nodeKey)).add(typeReject, sealed(rejectionsPayload(5), nodeKey))),
		logProblem{"trust.genesis-first", 0, "predicateType"})
	h := begin().next("ledger.sealed")
	n = begin().put(must(entry.New(h, sealed(enrolPayload(2, enrolWeb1, "web-2", second, ""), alice, bob))))
	l.bad("A2", "an action outside of stream trust has two signatures", whole(n),
		logProblem{"entry.stream", 2, "stream"}, logProblem{"event.signatures-one", 2, "signatures"})
	h = begin().next("trust")
	n = begin().put(must(entry.New(h, sealed(run1, web1))))
	l.bad("T11", "evidence in stream trust", whole(n), logProblem{"entry.stream", 2, "stream"}, logProblem{"trust.action", 2, "predicateType"})
	h = begin().next(typeRun)
	h.Time = h.Time.Add(-time.Hour)
	n = begin().put(must(entry.New(h, sealed(run1, web1))))
	l.bad("N16", "the node's clock goes back", whole(n), logProblem{"entry.time", 2, "time"})
	h = begin().next(typeRun)
	h.Previous = [32]byte{1}
	n = begin().put(must(entry.New(h, sealed(run1, web1))))
	l.bad("N17", "the node broke the chain", whole(n), logProblem{"entry.previous", 2, "previous"})
	n = run(begin(), run1, web1)
	h = n.next(typeRun)
	h.StreamPrevious = [32]byte{1}
	n.put(must(entry.New(h, sealed(run2, web1))))
	l.bad("N19", "the node broke a stream", whole(n), logProblem{"entry.stream-previous", 3, "stream"})
}

func makeLogArtifacts(l *logs) {
	sha := hexSum(artifactOf("web-1", 2))
	with := func(it item) *logCase { return &logCase{Artifacts: map[string]item{sha: it}} }
	l.bad("L14", "an artifact is gone", with(item{absent: true}), logProblem{"artifact.missing", 3, "subject.0"})
	l.bad("L15", "an artifact cannot be opened", with(item{unreadable: "open"}), logProblem{"artifact.unreadable", 3, "subject.0"})
	l.bad("L15", "an artifact cannot be read", with(item{unreadable: "read"}), logProblem{"artifact.unreadable", 3, "subject.0"})
	l.bad("L16", "an artifact was changed", with(bytesOf("raw evidence 3 of web-1\n")), logProblem{"artifact.changed", 3, "subject.0"})
}

func makeTileLogs(c *collection) {
	b := wideLog()
	base := b.done()
	c.Logs = map[string]*logCase{"wide": base}
	l := &logs{c, "wide", len(base.Entries)}
	const path = "tile/0/000"
	tile := base.Tiles[path].data
	with := func(it item) *logCase { return &logCase{Tiles: map[string]item{path: it}} }
	changed := clone(tile)
	changed[100]++
	l.good("a log", "verified", &logCase{})
	l.bad("L11", "a tile is gone", with(item{absent: true}), logProblem{"tile.missing", -1, path})
	l.bad("L12", "a tile cannot be read", with(item{unreadable: "open"}), logProblem{"tile.unreadable", -1, path})
	l.bad("L13", "a tile is shorter", with(item{data: tile[:255*32]}), logProblem{"tile.changed", -1, path})
	l.bad("L13", "a tile was changed", with(item{data: changed}), logProblem{"tile.changed", -1, path})
}
