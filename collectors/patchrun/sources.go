package patchrun

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxLine is the longest line that is held in memory; a longer one is passed
// over and reported.
const maxLine = 16 << 20

// source is one log file as it was when Collect began: what is appended, renamed
// or removed meanwhile does not reach it, since the file is held open and read
// only up to its size of then.
type source struct {
	path string
	file *os.File
	info os.FileInfo
	err  error // why it could not be opened
}

// reader returns the file's text from its beginning.
func (s *source) reader() (io.Reader, error) {
	if s.err != nil {
		return nil, s.err
	}
	return decompress(io.NewSectionReader(s.file, 0, s.info.Size()))
}

// decompress looks at the first bytes, not at the name: logrotate can be told
// any suffix.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, _ := b.Peek(6)
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(b), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return nil, errors.New("compressed by xz or zstd, which is not read here: let logrotate use gzip")
	}
	return b, nil
}

// snapshot opens all files of the patterns, the oldest first. logrotate may
// rename them between the listing and the opening; a run could then be missed
// for this time, which would make its dpkg lines look like runs of their own. So
// the names are looked at again, and all is done anew until nothing moved.
func snapshot(patterns []string) ([]*source, error) {
	for try := 0; ; try++ {
		sources, err := openAll(patterns)
		if err != nil {
			return nil, err
		}
		if settled(patterns, sources) {
			return sources, nil
		}
		closeAll(sources)
		if try == 9 {
			return nil, fmt.Errorf("%s: the files are renamed faster than they can be opened", strings.Join(patterns, ", "))
		}
	}
}

func closeAll(sources []*source) {
	for _, s := range sources {
		if s.file != nil {
			s.file.Close()
		}
	}
}

func openAll(patterns []string) ([]*source, error) {
	paths, err := list(patterns)
	if err != nil {
		return nil, err
	}
	var sources []*source
	for _, path := range paths {
		s := &source{path: path}
		sources = append(sources, s)
		if s.info, s.err = os.Stat(path); s.err != nil {
			continue
		}
		if !s.info.Mode().IsRegular() { // a FIFO would block for ever
			s.err = &os.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
			continue
		}
		if s.file, s.err = os.Open(path); s.err == nil {
			s.info, s.err = s.file.Stat()
		}
	}
	return sources, nil
}

// settled tells whether every name still leads to the file that was opened.
func settled(patterns []string, sources []*source) bool {
	paths, err := list(patterns)
	if err != nil || len(paths) != len(sources) {
		return false
	}
	for i, path := range paths {
		if sources[i].path != path {
			return false
		}
		now, err := os.Stat(path)
		if err == nil && sources[i].file != nil && !os.SameFile(now, sources[i].info) {
			return false
		}
	}
	return true
}

func list(patterns []string) ([]string, error) {
	var paths []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		slices.SortFunc(found, olderName)
		for _, path := range found {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths, nil
}

// olderName orders the names that logrotate gives, the oldest first:
// history.log-20260901.gz (dateext), then history.log.12.gz down to
// history.log.1, then history.log.
func olderName(a, b string) int {
	age := func(path string) (kind, number int, rest string) {
		name := filepath.Base(path)
		for _, suffix := range []string{".gz", ".bz2", ".xz", ".zst"} {
			name = strings.TrimSuffix(name, suffix)
		}
		dot := strings.LastIndexByte(name, '.')
		if n, err := strconv.Atoi(name[dot+1:]); err == nil && n >= 0 && dot >= 0 {
			return 1, -n, path
		}
		if strings.HasSuffix(name, ".log") {
			return 2, 0, path
		}
		return 0, 0, path
	}
	kindA, numberA, restA := age(a)
	kindB, numberB, restB := age(b)
	return cmp.Or(cmp.Compare(kindA, kindB), cmp.Compare(numberA, numberB), cmp.Compare(restA, restB))
}

// line is one line of a file.
type line struct {
	number int
	text   []byte // with its LF; valid until the next line is read
	long   bool   // over maxLine, text is empty
}

// lines reads a text line by line in bounded memory.
type lines struct {
	r      *bufio.Reader
	buffer []byte
	number int
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns io.EOF after the last line. With another error (a compressed file
// that was cut off) the text read so far on that line is lost.
func (l *lines) next() (line, error) {
	l.buffer = l.buffer[:0]
	l.number++
	long := false
	for {
		chunk, err := l.r.ReadSlice('\n')
		if len(l.buffer)+len(chunk) > maxLine {
			long, l.buffer = true, nil
		}
		if !long {
			l.buffer = append(l.buffer, chunk...)
		}
		switch {
		case err == nil:
			return line{l.number, l.buffer, long}, nil
		case err == bufio.ErrBufferFull:
		case err == io.EOF && (len(l.buffer) > 0 || long):
			return line{l.number, l.buffer, long}, nil
		default:
			return line{}, err
		}
	}
}

// Faults counts what could not be read of one file. It keeps the first few with
// their line numbers, so that a file of binary rubbish yields one error of a few
// lines. It never quotes the file: logs name people.
type Faults struct {
	Path  string // names the file in Err
	count int
	first []string
	cause error
}

const faultsNamed = 10

func (f *Faults) add(number int, format string, args ...any) {
	f.count++
	if f.count <= faultsNamed {
		f.first = append(f.first, fmt.Sprintf("line %d: ", number)+fmt.Sprintf(format, args...))
	}
}

// stop notes the error after which nothing more of the file could be read.
func (f *Faults) stop(number int, err error) {
	f.cause = err
	f.add(number, "reading stopped here: %v", err)
}

// Count is the number of places that could not be read.
func (f *Faults) Count() int { return f.count }

// Err returns nil where everything was read.
func (f *Faults) Err() error {
	if f.count == 0 {
		return nil
	}
	text := fmt.Sprintf("%s: %d not read: %s", f.Path, f.count, strings.Join(f.first, "; "))
	if more := f.count - len(f.first); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	if f.cause != nil {
		return fmt.Errorf("%s (%w)", text, f.cause)
	}
	return errors.New(text)
}
