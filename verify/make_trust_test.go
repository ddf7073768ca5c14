package verify_test

import (
	"bytes"
	"fmt"
	"strings"

	"evidence-ledger/verify/checkpoint"
	"evidence-ledger/verify/trust"
)

var node2, node3, carol, dave = edKey("node-2"), edKey("node-3"), edKey("carol"), ecKey("dave")

func possessionOf(name string, k testKey, origin string) string {
	return b64(k.sign(trust.PossessionMessage(origin, name, k.public.ID())))
}

func revokePayload(n int, basis, name string, k testKey, reason string) string {
	return ownPayload(trust.TypeRevoked, n, `{"basis":"`+hexSum([]byte(basis))+`","name":"`+name+`","keyid":"`+k.public.ID()+`","reason":`+reason+`}`)
}

func rotatePayload(n int, basis string, k testKey) string {
	return ownPayload(trust.TypeRotated, n, `{"basis":"`+hexSum([]byte(basis))+`","node":{"vkey":"`+vkeyOf(k)+`","publicKey":"`+k.public.String()+
		`"},"possession":"`+possessionOf("node", k, vectorOrigin)+`"}`)
}

// stays is an admin without, comes one with possession.
func stays(name string, k testKey) string {
	return `{"name":"` + name + `","publicKey":"` + k.public.String() + `"}`
}

func comes(name string, k testKey) string {
	return edit(stays(name, k), `"}`, `","possession":"`+possessionOf(name, k, vectorOrigin)+`"}`)
}

func adminsPayload(n int, basis string, threshold int, admins ...string) string {
	return ownPayload(trust.TypeAdmins, n, fmt.Sprintf(`{"basis":"%s","admins":{"threshold":%d,"keys":[%s]}}`, hexSum([]byte(basis)), threshold, strings.Join(admins, ",")))
}

// Actions on top of the enrolment of web-1.
var (
	revokeWeb1   = revokePayload(2, enrolWeb1, "web-1", web1, `"retired"`)
	stolenWeb1   = revokePayload(2, enrolWeb1, "web-1", web1, `"compromised","doubtedSince":"2026-03-01T09:30:00.000000Z"`)
	rotateNode   = rotatePayload(2, enrolWeb1, node2)
	changeAdmins = adminsPayload(2, enrolWeb1, 2, stays("alice", alice), comes("carol", carol))
)

var actionChanges = []schemaChange{
	{revokeWeb1, "predicate.data.keyid", "a key ID in capitals", web1.public.ID(), strings.ToUpper(web1.public.ID())},
	{revokeWeb1, "predicate.data.reason", "another reason", `"retired"`, `"bored"`},
	{revokeWeb1, "predicate.data.doubtedSince", "a key that nobody stole is doubted", `"retired"`, `"retired","doubtedSince":"2026-03-01T09:30:00.000000Z"`},
	{revokeWeb1, "predicate.data.doubtedSince", "a stolen key is not doubted", `"retired"`, `"compromised"`},
	{stolenWeb1, "predicate.data.doubtedSince", "no decimals", `09:30:00.000000Z`, `09:30:00Z`},
	{rotateNode, "predicate.data.possession", "no possession", `,"possession":"` + possessionOf("node", node2, vectorOrigin) + `"`, ``},
	{rotateNode, "predicate.data.node.vkey", "no verifier key", `"vkey":"` + vkeyOf(node2) + `",`, ``},
	{rotateNode, "predicate.data.basis", "no basis", `"basis":"` + hexSum([]byte(enrolWeb1)) + `",`, ``},
	{changeAdmins, "predicate.data.admins.keys", "no admins", `[` + stays("alice", alice) + `,` + comes("carol", carol) + `]`, `[]`},
	{changeAdmins, "predicate.data.admins.threshold", "threshold 0", `"threshold":2`, `"threshold":0`},
	{changeAdmins, "predicate.data.admins.keys.0.extra", "an unknown member", `"name":"alice"`, `"name":"alice","extra":1`},
}

// badAction is an action that breaks a rule; keys are alice and bob where there
// are none, and %s in where is the place of the last of them.
type badAction struct {
	rule, where, why, payload string
	keys                      []testKey
}

func (c *collection) badActions(before [][]byte, list []badAction) {
	for _, x := range list {
		if x.keys == nil {
			x.keys = []testKey{alice, bob}
		}
		where := placeOf(x.where, x.keys[len(x.keys)-1], x.keys)
		c.bad(x.rule, where, x.why, at(append(before[:len(before):len(before)], sealed(x.payload, x.keys...))...))
	}
}

func makeRevocations(c *collection, begin, enrol []byte) {
	run, revoke := sealed(run1, web1), sealed(revokeWeb1, alice, bob)
	c.good("evidence before the key's revocation", at(begin, enrol, run, revoke))
	c.good("a stolen key", at(begin, enrol, run, sealed(stolenWeb1, alice, bob)))
	again := sealed(enrolPayload(3, revokeWeb1, "web-1", second, ""), alice, bob)
	c.good("a new key under the name", at(begin, enrol, revoke, again, sealed(runPayload(4, "web-1", 1, ""), second)))
	c.bad("A9", "predicate.event.collector", "evidence after the key's revocation", at(begin, enrol, revoke, run))
	c.bad("A9", "predicate.event.collector", "evidence after the revocation of a stolen key", at(begin, enrol, run, sealed(stolenWeb1, alice, bob), sealed(run2, web1)))
	c.bad("A9", "predicate.event.collector", "the old key beside the new one", at(begin, enrol, revoke, again, run))

	weak := edit(stolenWeb1, "2026-03-01T09:30:00", "2016-12-31T23:59:60")
	c.badActions([][]byte{begin, enrol}, []badAction{
		{"T20", "predicate.data.keyid", "a key that nobody enrolled", revokePayload(2, enrolWeb1, "web-1", stranger, `"retired"`), nil},
		{"T20", "predicate.data.keyid", "an admin's key", revokePayload(2, enrolWeb1, "alice", alice, `"retired"`), nil},
		{"T20", "predicate.data.keyid", "a key under another name", revokePayload(2, enrolWeb1, "web-2", web1, `"retired"`), nil},
		{"T22", "predicate.data.doubtedSince", "a leap second has no time", weak, nil},
		{"T9", "signatures", "one admin of two", revokeWeb1, []testKey{bob}},
		{"T8", "signatures.%s.keyid", "the node is no admin", revokeWeb1, []testKey{alice, bob, nodeKey}},
		{"T8", "signatures.%s.keyid", "the key that is revoked is no admin's", revokeWeb1, []testKey{alice, web1}},
		{"T12", "predicate.data.basis", "signed on another state", edit(revokeWeb1, hexSum([]byte(enrolWeb1)), ones64), nil},
		{"T2", "predicate.event.ledger", "for another ledger", edit(revokeWeb1, `"ledger":"ledger.example.org`, `"ledger":"other.example.org`), nil},
	})
	c.badActions([][]byte{begin, enrol, revoke}, []badAction{
		{"T21", "predicate.data.keyid", "revoked already", revokePayload(3, revokeWeb1, "web-1", web1, `"superseded"`), nil},
		{"T6", "predicate.data.publicKey", "a revoked key comes back", enrolPayload(3, revokeWeb1, "web-1", web1, ""), nil},
	})
	c.badActions([][]byte{begin, enrol, sealed(enrolDB1, alice, bob)}, []badAction{
		{"T12", "predicate.data.basis", "a revocation that was held back", revokeWeb1, nil},
	})
}

func makeRotations(c *collection, begin, enrol []byte) {
	rotate := sealed(rotateNode, nodeKey, alice, bob)
	twice := rotatePayload(3, rotateNode, node3)
	old, next := sealed(reject4, nodeKey), sealed(reject4, node2)
	c.good("the node's events before and after the rotation of its key", at(begin, enrol, old, rotate, next))
	c.good("a rotation without the old key, which is lost", at(begin, enrol, sealed(rotateNode, alice, bob), next))
	c.good("a key that is rotated twice", at(begin, enrol, rotate, next, sealed(twice, node2, alice, bob), sealed(reject4, node3)))
	c.bad("A10", "signatures.0.keyid", "the node's event by its old key", at(begin, enrol, rotate, old))
	c.bad("A10", "signatures.0.keyid", "the node's event by the key before the last rotation", at(begin, enrol, rotate, sealed(twice, alice, bob), next))
	c.bad("A3", "signatures.0.keyid", "the node's event by its new key before the rotation", at(begin, enrol, next, rotate))
	c.bad("A5", "signatures.0.keyid", "the node's new key for a collector's event", at(begin, enrol, rotate, sealed(run1, node2)))
	c.bad("E13", "signatures.0", "the new key's signature does not verify", at(begin, enrol, rotate, data(edit(string(next), `"sig":"`, `"sig":"AAAA`))))

	right := possessionOf("node", node2, vectorOrigin)
	weak := b64(append(bytes.Clone(alice.public.DER()[:12]), append([]byte{1}, make([]byte, 31)...)...))
	public := `"publicKey":"` + node2.public.String()
	c.badActions([][]byte{begin, enrol}, []badAction{
		{"T9", "signatures", "by the node alone", rotateNode, []testKey{nodeKey}},
		{"T9", "signatures", "by the node and one admin of two", rotateNode, []testKey{nodeKey, alice}},
		{"T8", "signatures.%s.keyid", "by the new key", rotateNode, []testKey{alice, bob, node2}},
		{"T8", "signatures.%s.keyid", "a stranger's signature beside", rotateNode, []testKey{nodeKey, alice, bob, stranger}},
		{"T12", "predicate.data.basis", "signed on another state", edit(rotateNode, hexSum([]byte(enrolWeb1)), ones64), nil},
		{"T3", "subject", "another subject", edit(edit(rotateNode, `"name":"`+vectorOrigin, `"name":"x`), hexSum([]byte(vectorOrigin)), ones64), nil},
		{"T6", "predicate.data.node.publicKey", "the key that the node has", rotatePayload(2, enrolWeb1, nodeKey), nil},
		{"T6", "predicate.data.node.publicKey", "an admin's key", rotatePayload(2, enrolWeb1, alice), nil},
		{"T6", "predicate.data.node.publicKey", "a collector's key", rotatePayload(2, enrolWeb1, web1), nil},
		{"K7", "predicate.data.node.publicKey", "a key of small order", edit(rotateNode, public, `"publicKey":"`+weak), nil},
		{"T17", "predicate.data.node.publicKey", "a key that is not Ed25519", edit(rotateNode, public, `"publicKey":"`+db1.public.String()), nil},
		{"T4", "predicate.data.node.vkey", "the verifier key of the old key", edit(rotateNode, vkeyOf(node2), vkeyOf(nodeKey)), nil},
		{"T4", "predicate.data.node.vkey", "a verifier key of another name", edit(rotateNode, vkeyOf(node2), checkpoint.VKey("other.example.org", node2.public.Ed25519())), nil},
		{"T23", "predicate.data.possession", "possession of another name", edit(rotateNode, right, possessionOf("web-1", node2, vectorOrigin)), nil},
		{"T23", "predicate.data.possession", "possession in another ledger", edit(rotateNode, right, possessionOf("node", node2, "other.example.org")), nil},
		{"T23", "predicate.data.possession", "possession of the old key", edit(rotateNode, right, possessionOf("node", nodeKey, vectorOrigin)), nil},
		{"T23", "predicate.data.possession", "no base64", edit(rotateNode, right, strings.TrimRight(right, "=")), nil},
	})
	c.badActions([][]byte{begin, enrol, rotate}, []badAction{
		{"T6", "predicate.data.node.publicKey", "back to the old key", rotatePayload(3, rotateNode, nodeKey), nil},
		{"T8", "signatures.%s.keyid", "the next rotation by the key before", twice, []testKey{alice, bob, nodeKey}},
		{"T6", "predicate.data.publicKey", "the old key for a collector", enrolPayload(3, rotateNode, "web-2", nodeKey, ""), nil},
	})
	c.badActions([][]byte{begin, enrol, sealed(enrolDB1, alice, bob)}, []badAction{
		{"T12", "predicate.data.basis", "a rotation that was held back", rotateNode, nil},
	})
}

func makeAdmins(c *collection, begin, enrol []byte) {
	change := sealed(changeAdmins, alice, bob)
	after := enrolPayload(3, changeAdmins, "web-2", second, "")
	others := adminsPayload(2, enrolWeb1, 2, comes("carol", carol), comes("dave", dave))
	one := adminsPayload(2, enrolWeb1, 1, stays("bob", bob))
	c.good("an action by an admin that stayed and a new one", at(begin, enrol, change, sealed(after, alice, carol)))
	c.good("all admins are new", at(begin, enrol, sealed(others, alice, bob), sealed(enrolPayload(3, others, "web-2", second, ""), carol, dave)))
	c.good("one admin is left", at(begin, enrol, sealed(one, alice, bob), sealed(enrolPayload(3, one, "web-2", second, ""), bob)))
	c.good("the new admins let in more", at(begin, enrol, change, sealed(adminsPayload(3, changeAdmins, 2, stays("carol", carol), comes("dave", dave)), alice, carol)))
	c.good("a key that stays, under another name", at(begin, enrol, sealed(adminsPayload(2, enrolWeb1, 1, stays("robert", bob)), alice, bob)))
	c.good("a key that stays shows its possession", at(begin, enrol, sealed(adminsPayload(2, enrolWeb1, 1, comes("robert", bob)), alice, bob)))
	c.good("the admins rotate the node's key", at(begin, enrol, change, sealed(rotatePayload(3, changeAdmins, node2), alice, carol), sealed(reject4, node2)))

	c.bad("T19", "predicate.data.admins.keys.1.name", "an admin of the name node", at(sealed(edit(genesis, `"name":"bob"`, `"name":"node"`), nodeKey, alice, bob)))
	with := func(threshold int, admins ...string) string { return adminsPayload(2, enrolWeb1, threshold, admins...) }
	wrong := edit(comes("carol", carol), possessionOf("carol", carol, vectorOrigin), possessionOf("carol", carol, "other.example.org"))
	c.badActions([][]byte{begin, enrol}, []badAction{
		{"T9", "signatures", "one admin of two", changeAdmins, []testKey{alice}},
		{"T8", "signatures.%s.keyid", "an admin of before and a new one", changeAdmins, []testKey{alice, carol}},
		{"T8", "signatures.%s.keyid", "a new admin beside", changeAdmins, []testKey{alice, bob, carol}},
		{"T8", "signatures.%s.keyid", "the node is no admin", changeAdmins, []testKey{alice, bob, nodeKey}},
		{"T12", "predicate.data.basis", "signed on another state", edit(changeAdmins, hexSum([]byte(enrolWeb1)), ones64), nil},
		{"T5", "predicate.data.admins.keys.1.name", "two admins of one name", with(2, stays("alice", alice), comes("alice", carol)), nil},
		{"T19", "predicate.data.admins.keys.0.name", "an admin of the name node", with(1, comes("node", carol)), nil},
		{"T6", "predicate.data.admins.keys.1.publicKey", "one admin under two names", with(2, stays("alice", alice), stays("carol", alice)), nil},
		{"T6", "predicate.data.admins.keys.1.publicKey", "a new admin under two names", with(2, comes("carol", carol), comes("dave", carol)), nil},
		{"T6", "predicate.data.admins.keys.0.publicKey", "a collector's key", with(1, comes("web-1", web1)), nil},
		{"T6", "predicate.data.admins.keys.0.publicKey", "the node's key", with(1, comes("carol", nodeKey)), nil},
		{"K2", "predicate.data.admins.keys.0.publicKey", "a key that is none", with(1, `{"name":"carol","publicKey":"AAAA"}`), nil},
		{"T24", "predicate.data.admins.keys.1.possession", "a new key without possession", with(2, stays("alice", alice), stays("carol", carol)), nil},
		{"T24", "predicate.data.admins.keys.0.possession", "possession of another name", with(1, edit(comes("carol", carol), `"carol"`, `"dave"`)), nil},
		{"T24", "predicate.data.admins.keys.0.possession", "possession in another ledger", with(1, wrong), nil},
		{"T24", "predicate.data.admins.keys.0.possession", "a key that stays, with the possession of another name", with(1, edit(comes("alice", alice), `"alice"`, `"al"`)), nil},
		{"T7", "predicate.data.admins.threshold", "more than there are admins", with(3, stays("alice", alice), comes("carol", carol)), nil},
	})
	c.badActions([][]byte{begin, enrol, change}, []badAction{
		{"T8", "signatures.%s.keyid", "an action by a removed admin", after, []testKey{alice, bob}},
		{"T8", "signatures.%s.keyid", "a removed admin beside the quorum", after, []testKey{alice, carol, bob}},
		{"T9", "signatures", "one of the new admins", after, []testKey{carol}},
		{"T8", "signatures.%s.keyid", "an action of before, held back", enrolDB1, []testKey{alice, bob}},
		{"T12", "predicate.data.basis", "an action of before, signed by the new admins", enrolDB1, []testKey{alice, carol}},
		{"T6", "predicate.data.admins.keys.0.publicKey", "a removed admin comes back", adminsPayload(3, changeAdmins, 1, comes("bob", bob)), []testKey{alice, carol}},
		{"T6", "predicate.data.publicKey", "a removed admin's key for a collector", enrolPayload(3, changeAdmins, "web-2", bob, ""), []testKey{alice, carol}},
		{"T6", "predicate.data.node.publicKey", "a removed admin's key for the node", rotatePayload(3, changeAdmins, bob), []testKey{alice, carol}},
	})
	c.badActions([][]byte{begin, enrol, sealed(adminsPayload(2, enrolWeb1, 3, stays("alice", alice), stays("bob", bob), comes("carol", carol)), alice, bob)}, []badAction{
		{"T9", "signatures", "the threshold of before", enrolPayload(3, adminsPayload(2, enrolWeb1, 3, stays("alice", alice), stays("bob", bob), comes("carol", carol)), "web-2", second, ""), []testKey{alice, bob}},
	})
	c.badActions([][]byte{begin, enrol, sealed(enrolDB1, alice, bob)}, []badAction{
		{"T12", "predicate.data.basis", "a change that was held back", changeAdmins, nil},
	})
}

// The actions of the log in which all of that changes.
var (
	rotateMid = rotatePayload(4, enrolWeb1, node2)
	revokeMid = revokePayload(17, rotateMid, "web-1", web1, `"compromised","doubtedSince":"2026-03-01T10:00:05.000000Z"`)
	changeMid = adminsPayload(8, revokeMid, 2, stays("alice", alice), comes("carol", carol), comes("dave", dave))
	enrolEnd  = enrolPayload(9, changeMid, "db-1", db1, "")
)

// changingLog has eleven entries; entry 4 rotates the node's key, 7 revokes
// web-1, 8 changes the admins. Checkpoints of 2 and 4 entries have the old key,
// of 5, 7, 9 and 11 the new one.
func changingLog() *builder {
	b := newBuilder()
	b.add(trust.TypeGenesis, sealed(genesis, nodeKey, alice, bob))
	b.add(trust.TypeEnrolled, sealed(enrolWeb1, alice, bob)).sign()
	b.add(typeRun, sealed(run1, web1)).keep("web-1", 1)
	b.add(typeReject, sealed(rejectionsPayload(12), nodeKey)).sign()
	b.add(trust.TypeRotated, sealed(rotateMid, nodeKey, alice, bob))
	b.node = node2
	b.sign()
	b.add(typeReject, sealed(rejectionsPayload(13), node2))
	b.add(typeRun, sealed(run2, web1)).keep("web-1", 2).sign()
	b.add(trust.TypeRevoked, sealed(revokeMid, alice, bob))
	b.add(trust.TypeAdmins, sealed(changeMid, alice, bob)).sign()
	b.add(trust.TypeEnrolled, sealed(enrolEnd, carol, dave))
	b.add(typeRun, sealed(runDB1, db1)).keep("db-1", 1).sign()
	return b
}

func makeTrustLogs(c *collection) {
	b := changingLog()
	base := b.done()
	c.Logs = map[string]*logCase{"changing": base}
	l := &logs{c, "changing", len(base.Entries)}
	kept := func(size int, k testKey) known {
		return known{fmt.Sprintf("a witness of %d", size), noteBy(checkpointAt(b, size), k)}
	}
	l.good("checkpoints and events before and after the rotation", "verified", &logCase{})
	l.good("notes of before and after the rotation that somebody kept", "verified", &logCase{Known: []known{kept(4, nodeKey), kept(5, node2), kept(11, node2)}})
	floor := *base.Identity + " 9 " + rootAt(b, 9)
	l.good("the old identity line with a floor beyond the rotation", "verified", &logCase{Identity: &floor})
	makeTrustHeads(l, b, kept)
	makeTrustForged(l, b)
}

// makeTrustHeads: checkpoints and notes by the key of another size.
func makeTrustHeads(l *logs, b *builder, kept func(int, testKey) known) {
	rows := l.Logs["changing"].Checkpoints // of 2, 4, 5, 7, 9, 11
	list := func(i int, k testKey) *logCase {
		in := &logCase{Checkpoints: append([]row(nil), rows...)}
		in.Checkpoints[i].Note = noteBy(checkpointAt(b, int(rows[i].Size)), k)
		return in
	}
	l.bad("C11", "a checkpoint by the old key after the rotation", list(3, nodeKey), logProblem{"checkpoint.unsigned", -1, "checkpoint 7"})
	l.bad("C11", "the rotation's own checkpoint by the old key", list(2, nodeKey), logProblem{"checkpoint.unsigned", -1, "checkpoint 5"})
	l.bad("C11", "the newest checkpoint by the old key", list(5, nodeKey), logProblem{"checkpoint.unsigned", -1, "checkpoint 11"})
	l.bad("C11", "a checkpoint by the new key before the rotation", list(1, node2), logProblem{"checkpoint.unsigned", -1, "checkpoint 4"})
	note := func(k known) *logCase { return &logCase{Known: []known{k}} }
	l.bad("L7", "a note of after the rotation by the old key", note(kept(7, nodeKey)), logProblem{"log.known-note", -1, "a witness of 7"})
	l.bad("L7", "a note of before the rotation by the new key", note(kept(4, node2)), logProblem{"log.known-note", -1, "a witness of 4"})
	other := checkpointAt(b, 7)
	other.Root = checkpointAt(b, 5).Root
	l.bad("L8", "a note of after the rotation has another root", note(known{"a witness", noteBy(other, node2)}), logProblem{"log.fork", -1, "a witness"})
	l.bad("L7", "the thief of the old key has another tree", note(known{"a witness", noteBy(other, nodeKey)}), logProblem{"log.known-note", -1, "a witness"})
	beyond := checkpointAt(b, 11)
	beyond.Size = 12
	l.bad("L9", "a note goes beyond the end", note(known{"a witness", noteBy(beyond, node2)}), logProblem{"log.rollback", -1, "a witness"})
	l.bad("L7", "a note by the old key goes beyond the end", note(known{"a witness", noteBy(beyond, nodeKey)}), logProblem{"log.known-note", -1, "a witness"})

	back := order(0, 1, 2, 3)
	back.Checkpoints, back.Known = rows[:2], []known{kept(7, node2)}
	l.bad("L7", "the log was set back to before the rotation, of which a note speaks", back, logProblem{"log.known-note", -1, "a witness of 7"})
}

// makeTrustForged: the node appended what it must not.
func makeTrustForged(l *logs, b *builder) {
	upTo := func(n int) *builder {
		out := newBuilder()
		for _, e := range b.entries[:n] {
			out.put(e)
		}
		if n > 4 {
			out.node = node2
		}
		return out
	}
	l.bad("A10", "the node's event by its old key", whole(upTo(5).add(typeReject, sealed(rejectionsPayload(13), nodeKey))),
		logProblem{"authority.node-key-old", 5, "signatures.0.keyid"})
	l.bad("A3", "the node's event by its new key before the rotation", whole(upTo(4).add(typeReject, sealed(rejectionsPayload(13), node2))),
		logProblem{"authority.node-key", 4, "signatures.0.keyid"})
	alone := upTo(4).add(trust.TypeRotated, sealed(rotateMid, nodeKey, alice))
	l.bad("T9", "the node rotates its key with one admin of two, and goes on with the old one", whole(alone), logProblem{"trust.quorum", 4, "signatures"})
	alone = upTo(4).add(trust.TypeRotated, sealed(rotateMid, nodeKey)).add(typeReject, sealed(rejectionsPayload(13), node2))
	alone.node = node2
	l.bad("T9", "the node rotates its key alone", whole(alone),
		logProblem{"trust.quorum", 4, "signatures"}, logProblem{"authority.node-key", 5, "signatures.0.keyid"}, logProblem{"checkpoint.unsigned", -1, "checkpoint 6"})
	l.bad("A9", "evidence after the key's revocation", whole(upTo(8).add(typeRun, sealed(run3, web1)).keep("web-1", 3)),
		logProblem{"authority.revoked", 8, "predicate.event.collector"})
	bobs := placeOf("signatures.%s.keyid", bob, []testKey{alice, bob})
	l.bad("T8", "an action by a removed admin", whole(upTo(9).add(trust.TypeEnrolled, sealed(enrolEnd, alice, bob))), logProblem{"trust.signer", 9, bobs})
	held := enrolPayload(9, revokeMid, "db-1", db1, "")
	l.bad("T8", "an action that was held back over the change of admins", whole(upTo(9).add(trust.TypeEnrolled, sealed(held, alice, bob))), logProblem{"trust.signer", 9, bobs})
	l.bad("T12", "an action that was held back", whole(upTo(5).add(trust.TypeEnrolled, sealed(enrolPayload(9, enrolWeb1, "db-1", db1, ""), alice, bob))),
		logProblem{"trust.basis", 5, "predicate.data.basis"})
	l.bad("T6", "a removed admin comes back", whole(upTo(9).add(trust.TypeAdmins, sealed(adminsPayload(9, changeMid, 1, comes("bob", bob)), carol, dave))),
		logProblem{"trust.keys-distinct", 9, "predicate.data.admins.keys.0.publicKey"})
}

// makeRotatedReceipts: what stream trust says of the node's key.
func makeRotatedReceipts(c *collection) {
	b := changingLog()
	receipt := func(size, index int, k testKey) receiptIn {
		n := newBuilder()
		for _, e := range b.entries[:size] {
			n.put(e)
		}
		p := n.proofOf(uint64(index))
		p.Checkpoint, p.Extra = noteBy(n.head(), k), n.entries[index].Header.Bytes()
		return receiptIn{b.identity(), nil, data(n.entries[index].Envelope), p.Marshal()}
	}
	with := func(in receiptIn, entries ...data) receiptIn {
		in.Trust = entries
		return in
	}
	e := func(i int) data { return data(b.entries[i].Raw) }
	before, after := receipt(4, 2, nodeKey), receipt(7, 6, node2)
	c.good("before the rotation of the node's key", before)
	c.good("before the rotation, for who knows of it", with(before, e(0), e(1), e(4)))
	c.good("after the rotation, for who knows of it", with(after, e(0), e(1), e(4)))
	c.good("an old event under a checkpoint of after the rotation", with(receipt(7, 2, node2), e(0), e(1), e(4)))
	c.good("all that stream trust has", with(after, e(0), e(1), e(4), e(7), e(8), e(9)))
	c.bad("C11", "signature", "after the rotation, for who does not know of it", after)
	c.bad("C11", "signature", "after the rotation, with the actions before", with(after, e(0), e(1)))
	c.bad("C11", "signature", "after the rotation by the old key", with(receipt(7, 6, nodeKey), e(0), e(1), e(4)))
	c.bad("C11", "signature", "before the rotation by the new key", with(receipt(4, 2, node2), e(0), e(1), e(4)))

	head := func(i int, old, new string) data { return data(edit(string(e(i)), old, new)) }
	third := func(d data) receiptIn { return with(after, e(0), e(1), d) }
	c.bad("I7", "", "another genesis", with(after, head(0, "time 2026-03-01T10", "time 2026-03-01T09"), e(1), e(4)))
	c.bad("N2", "header", "rubbish", third(data("rubbish")))
	c.bad("E9", "signatures", "an action without signatures", third(data(edit(string(e(4)), string(b.entries[4].Envelope), string(sealed(rotateMid))))))
	c.bad("T9", "signatures", "a rotation without a quorum", third(data(edit(string(e(4)), string(b.entries[4].Envelope), string(sealed(rotateMid, nodeKey, alice))))))
	c.bad("T12", "predicate.data.basis", "an action was left out", with(after, e(0), head(4, fmt.Sprintf("trust 2 %x", leafOf(b, 1)), fmt.Sprintf("trust 1 %x", leafOf(b, 0)))))
	c.bad("N18", "stream", "an action was left out, and its number", with(after, e(0), e(4)))
	c.bad("N19", "stream", "another action stood before", third(head(4, fmt.Sprintf("trust 2 %x", leafOf(b, 1)), "trust 2 "+ones64)))
	c.bad("N15", "index", "the index does not ascend", third(head(4, "index 4", "index 1")))
	c.bad("N16", "time", "the time goes back", third(head(4, "time 2026-03-01T10:00:04", "time 2026-03-01T10:00:00")))
	c.bad("N14", "stream", "another stream", third(head(4, "stream trust", "stream ledger.rejections")))
	c.bad("T11", "predicateType", "no action", third(e(2)))
}
