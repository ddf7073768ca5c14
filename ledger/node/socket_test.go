package node_test

import (
	"encoding/json/v2"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"evidence-ledger/ledger/ledgertest"
	"evidence-ledger/ledger/node"
)

// TestLyingSocket: whoever listens on DIR/node.sock can neither have another
// folder opened or removed than the one that was asked for, nor show other
// files than the directory's own.
func TestLyingSocket(t *testing.T) {
	good := ledgertest.Create(t, filepath.Join(t.TempDir(), "good"), nil)
	good.Must(good.Enrol("web-1", "patch.*").Event("one").Candidate())
	good.Close()
	bad := ledgertest.Create(t, filepath.Join(t.TempDir(), "bad"), nil)
	bad.Close()
	victim := t.TempDir()
	if err := os.WriteFile(filepath.Join(victim, "file"), []byte("unrelated"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, show := range map[string]func(t *testing.T, at string){
		"nothing":            func(*testing.T, string) {},
		"another's store":    func(t *testing.T, at string) { copyTo(t, good.Dir, at) },
		"a link to a folder": func(t *testing.T, at string) { link(t, victim, at) },
		"a link to a ledger": func(t *testing.T, at string) { link(t, good.Dir, at) },
	} {
		t.Run(name, func(t *testing.T) {
			listen(t, bad.Dir, func(w http.ResponseWriter, r *http.Request) {
				asked, _ := io.ReadAll(r.Body)
				show(t, filepath.Join(bad.Dir, "snapshots", string(asked)))
				json.MarshalWrite(w, map[string]string{"dir": victim})
			})
			v, err := node.Open(bad.Dir, "")
			if err == nil {
				t.Error("it was opened", v.Close())
			}
			if _, err := os.Stat(filepath.Join(victim, "file")); err != nil {
				t.Error("an unrelated file is gone:", err)
			}
			if _, err := os.Stat(filepath.Join(good.Dir, "FORMAT")); err != nil {
				t.Error("another ledger's file is gone:", err)
			}
			if left, _ := os.ReadDir(filepath.Join(bad.Dir, "snapshots")); len(left) > 0 {
				t.Errorf("%d copies are left behind", len(left))
			}
		})
	}
}

func listen(t *testing.T, dir string, handle http.HandlerFunc) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "snapshots"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "node.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handle}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

func copyTo(t *testing.T, from, to string) {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil && !strings.Contains(err.Error(), "exist") {
		t.Error(err)
	}
}

func link(t *testing.T, to, at string) {
	if err := os.Symlink(to, at); err != nil {
		t.Error(err)
	}
}

// TestSilentSocket: whoever listens on the socket and does not answer, or never
// ends to, hangs nobody.
func TestSilentSocket(t *testing.T) {
	defer node.SetAnswerWait(300 * time.Millisecond)()
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"dripping": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte(" "))
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://node/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := ledgertest.Create(t, filepath.Join(t.TempDir(), "l"), nil)
			l.Close()
			listen(t, l.Dir, answer)
			begun := time.Now()
			if v, err := node.Open(l.Dir, ""); err == nil {
				t.Error("it was opened", v.Close())
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
