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

// Fetch returns the next messages in stream order: it waits for the first one
// as long as wait, then takes along what is there, at most max messages and 32
// MiB. Nothing within wait is no error and no message.
func (b *Bus) Fetch(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	if max < 1 {
		return nil, errors.New("bus: fetch: max must be at least 1")
	}
	out, err := b.pull(ctx, 1, wait)
	if err != nil || len(out) == 0 || max == 1 {
		return out, err
	}
	more, err := b.pull(ctx, max-1, gather)
	if err != nil {
		// The first one is good; whatever is wrong shows again next time.
		b.log.Warn("fetch", "error", err)
	}
	return append(out, more...), nil
}

func (b *Bus) pull(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	batch, err := b.consumer.Fetch(max, jetstream.FetchMaxWait(wait), jetstream.FetchMaxBytes(fetchBytes))
	if err != nil {
		return nil, fmt.Errorf("bus: fetch: %w", err)
	}
	var out []Message
	for {
		select {
		case <-ctx.Done():
			// What arrives now comes again after AckWait or at the next start.
			return out, ctx.Err()
		case msg, open := <-batch.Messages():
			if !open {
				if err := batch.Error(); err != nil {
					return out, fmt.Errorf("bus: fetch: %w", err)
				}
				return out, nil
			}
			m, err := newMessage(msg)
			if err != nil {
				return out, fmt.Errorf("bus: fetch: %w", err)
			}
			out = append(out, m)
		}
	}
}

func newMessage(msg jetstream.Msg) (Message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return Message{}, err
	}
	return Message{
		Subject: msg.Subject(), ID: msg.Headers().Get(nats.MsgIdHdr), Body: msg.Data(),
		Sequence: meta.Sequence.Stream, Deliveries: meta.NumDelivered, Received: meta.Timestamp,
		msg: msg,
	}, nil
}
