package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message is one submission as it arrived. It stays in the stream until Ack.
type Message struct {
	// Subject is evidence.v1.<collector>.<type>: the server has checked that
	// the connection was allowed to publish there.
	Subject string
	// ID is the header Nats-Msg-Id, which nobody has checked.
	ID string
	// Body is the submission.
	Body []byte
	// Sequence is the stream's number, no identity (see LastSequence).
	Sequence uint64
	// Deliveries counts how often it was handed out, this time included; it
	// starts anew with the process.
	Deliveries uint64
	// Received is when the server stored it.
	Received time.Time

	msg jetstream.Msg
}

// Ack lets the stream forget the message: only after the commit.
func (m Message) Ack() error { return m.msg.Ack() }

// InProgress says that the node still works on it: AckWait begins anew.
func (m Message) InProgress() error { return m.msg.InProgress() }

// Nak gives it back, to come again after the delay.
func (m Message) Nak(delay time.Duration) error { return m.msg.NakWithDelay(delay) }

// Fetch returns the next messages in stream order: those that are there, at
// most max and about 32 MiB; where there is none, it waits for one as long as
// wait. None within wait is no error. With an error come the messages that were
// read before it.
func (b *Bus) Fetch(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	if max < 1 || wait <= 0 {
		return nil, errors.New("bus: fetch: max and wait must be positive")
	}
	out, err := b.present(ctx, max)
	if err != nil || len(out) > 0 {
		return out, err
	}
	if out, err = b.next(ctx, wait); err != nil || len(out) == 0 {
		return out, err
	}
	more, err := b.present(ctx, max-1)
	return append(out, more...), err
}

// present takes what is there, in requests small enough that one of them does
// not fill the memory. A request ends by the server's word, not by a timeout:
// a message on its way to somebody who has stopped listening would be back only
// after AckWait.
func (b *Bus) present(ctx context.Context, max int) ([]Message, error) {
	var out []Message
	for size := 0; len(out) < max && size < fetchBytes; {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(max-len(out), fetchStep)
		batch, err := b.consumer.FetchNoWait(n)
		if err != nil {
			return out, fmt.Errorf("bus: fetch: %w", err)
		}
		got, err := read(batch)
		out = append(out, got...)
		if err != nil || len(got) < n {
			return out, err
		}
		for _, m := range got {
			size += len(m.Body)
		}
	}
	return out, nil
}

// next waits for one message.
func (b *Bus) next(ctx context.Context, wait time.Duration) ([]Message, error) {
	batch, err := b.consumer.Fetch(1, jetstream.FetchMaxWait(wait))
	if err != nil {
		return nil, fmt.Errorf("bus: fetch: %w", err)
	}
	select {
	case <-ctx.Done():
		go giveBack(batch)
		return nil, ctx.Err()
	case msg, open := <-batch.Messages():
		if !open {
			return read(batch) // nothing but its error
		}
		m, err := newMessage(msg)
		if err != nil {
			return nil, err
		}
		return []Message{m}, nil
	}
}

func read(batch jetstream.MessageBatch) ([]Message, error) {
	var out []Message
	for msg := range batch.Messages() {
		m, err := newMessage(msg)
		if err != nil {
			go giveBack(batch)
			return out, err
		}
		out = append(out, m)
	}
	if err := batch.Error(); err != nil {
		return out, fmt.Errorf("bus: fetch: %w", err)
	}
	return out, nil
}

// giveBack returns what a fetch that was given up still receives. It ends with
// the fetch's own wait.
func giveBack(batch jetstream.MessageBatch) {
	for msg := range batch.Messages() {
		_ = msg.Nak() // else it comes again after AckWait
	}
}

func newMessage(msg jetstream.Msg) (Message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return Message{}, fmt.Errorf("bus: fetch: %w", err)
	}
	return Message{
		Subject: msg.Subject(), ID: msg.Headers().Get(nats.MsgIdHdr), Body: msg.Data(),
		Sequence: meta.Sequence.Stream, Deliveries: meta.NumDelivered, Received: meta.Timestamp,
		msg: msg,
	}, nil
}
