package store

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// reader reads from a Pebble snapshot, or at Open from the whole store. Pebble
// panics at some damage (a blob file that is missing or has no good footer):
// every call into it goes through safely, and the panic comes out as an error.
type reader struct {
	s    *Store
	from pebble.Reader
}

func (r reader) safely(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.s.broken.Store(true)
			err = fmt.Errorf("panic in Pebble: %v", p)
		}
	}()
	return call()
}

// get returns a copy of one value.
func (r reader) get(key []byte) (value []byte, err error) {
	err = r.safely(func() error {
		v, closer, err := r.from.Get(key)
		if err != nil {
			return err
		}
		value = bytes.Clone(v)
		// Pebble drops the error of a value that it cannot fetch from a blob file,
		// and has it only here.
		return closer.Close()
	})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, r.corrupt(Table(key[0]), key, nil, err)
	}
	return value, nil
}

// cursor walks over keys in order.
type cursor struct {
	r    reader
	iter *pebble.Iterator
	err  error
}

// cursor returns one over the keys from <= key < to; it must be closed.
func (r reader) cursor(from, to []byte) *cursor {
	c := &cursor{r: r}
	c.err = r.safely(func() (err error) {
		c.iter, err = r.from.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		return err
	})
	return c
}

// to moves, as in c.to((*pebble.Iterator).First), and says whether there is a row.
func (c *cursor) to(move func(*pebble.Iterator) bool) (ok bool) {
	if c.err != nil {
		return false
	}
	c.err = c.r.safely(func() error {
		ok = move(c.iter)
		return c.iter.Error()
	})
	return ok && c.err == nil
}

// row returns copies. Where the value cannot be read there is still the key.
func (c *cursor) row() (key, value []byte, err error) {
	key = bytes.Clone(c.iter.Key())
	c.err = c.r.safely(func() error {
		v, err := c.iter.ValueAndErr()
		value = bytes.Clone(v)
		return err
	})
	return key, value, c.err
}

// close returns the first error of all.
func (c *cursor) close() error {
	if c.iter != nil {
		err := c.r.safely(c.iter.Close)
		if c.err == nil {
			c.err = err
		}
		c.iter = nil
	}
	return c.err
}

// last returns the last row of a table; a key alone with an error where only the
// value cannot be read.
func (r reader) last(table Table) (key, value []byte, err error) {
	prefix := []byte{byte(table)}
	c := r.cursor(prefix, after(prefix))
	if c.to((*pebble.Iterator).Last) {
		key, value, _ = c.row()
	}
	if err := c.close(); err != nil {
		return key, nil, r.corrupt(table, key, nil, err)
	}
	if key == nil {
		return nil, nil, ErrNotFound
	}
	return key, value, nil
}

// corrupt says what could not be read: a row where it is known, else what comes
// after the row seen last.
func (r reader) corrupt(table Table, row, seen []byte, err error) error {
	e := &CorruptError{Table: table, File: r.s.file(err), Err: err}
	if row != nil {
		e.Row = RowName(row)
		if entry, err := DecodeEntry(row, nil); err == nil {
			e.Index = entry.Index
		}
	}
	if seen != nil {
		e.After = RowName(seen)
	}
	return e
}

// fileNumber is how Pebble's errors name a file when they carry no path.
var fileNumber = regexp.MustCompile(`\bfile (\d{6,})\b`)

// file returns the file that err is about, "" where it does not say.
func (s *Store) file(err error) string {
	if path := corruptFile(err); path != "" {
		return path
	}
	number := fileNumber.FindStringSubmatch(err.Error())
	if number == nil {
		return ""
	}
	folder := storeFolder(s.o.FS, s.dir)
	names, _ := s.o.FS.List(folder)
	for _, name := range names {
		if strings.HasPrefix(name, number[1]+".") {
			return s.o.FS.PathJoin(folder, name)
		}
	}
	return ""
}
