// Package console serves the log over HTTP, reading only: checkpoint and tiles
// for machines (C2SP tlog-tiles), so that any client of such logs can follow
// and check it.
//
//	/checkpoint                     the newest signed note
//	/tile/<L>/<N>[.p/<W>]           hashes
//	/tile/entries/<N>[.p/<W>]       entries, each behind its length in 2 bytes
//
// Every answer is made from one head, and full tiles never change. Whoever
// reads here reads all of the log: the address is loopback only, and what goes
// further out is the operator's decision.
package console

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"evidence-ledger/ledger"
	"evidence-ledger/ledger/store"
	"evidence-ledger/verify/checkpoint"
)

// Handler serves the ledger.
func Handler(l *ledger.Ledger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(l.Head().Note)
	})
	mux.HandleFunc("GET /tile/", func(w http.ResponseWriter, r *http.Request) {
		data, err := tile(l, strings.TrimPrefix(r.URL.EscapedPath(), "/"))
		if err != nil {
			status := http.StatusInternalServerError
			if errors.Is(err, store.ErrNotFound) {
				status = http.StatusNotFound
			}
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "public, max-age=604800, immutable")
		w.Write(data)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		h := l.Head()
		fmt.Fprintf(w, "evidence ledger %s\n%d entries\n/checkpoint\n/tile/...  (C2SP tlog-tiles)\n", h.Origin, h.Size)
	})
	return mux
}

func tile(l *ledger.Ledger, path string) ([]byte, error) {
	t, err := checkpoint.ParseTilePath(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, store.ErrNotFound)
	}
	p := l.Prove()
	defer p.Close()
	if t.L >= 0 {
		return p.Tile(t)
	}
	first := uint64(t.N) * checkpoint.TileWidth
	entries, err := p.Entries(first, first+uint64(t.W))
	if err != nil {
		return nil, err
	}
	return checkpoint.EntryBundle(entries), nil
}
