package bus

import "github.com/nats-io/nats.go"

// Own gives tests the node's own connection, which may do everything.
func (b *Bus) Own() *nats.Conn { return b.conn }

// SyncAlways tells whether JetStream syncs before it acknowledges.
func (b *Bus) SyncAlways() bool { return b.server.JetStreamConfig().SyncAlways }
