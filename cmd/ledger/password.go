package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"evidence-ledger/ledger/sign"
)

// keys says how keys are opened. It is made once, so that a person is asked for
// a password once.
func (o *options) keys() sign.Options {
	if o.password == nil {
		o.password = sign.PasswordFrom(o.passwordFile, ask)
	}
	return sign.Options{Password: o.password, Plugins: o.schemes}
}

// schemesOfEnvironment is the default of --kms-scheme.
func schemesOfEnvironment() []string {
	return strings.FieldsFunc(os.Getenv(sign.SchemesVariable), func(r rune) bool { return r == ',' })
}

// ask asks a question on the terminal, whatever standard input is, and does not
// show the answer. Ctrl-C ends it, and the terminal shows again what is typed.
func ask(question string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("the key is encrypted, and there is no terminal to ask for the password: give it with --password-file, or in the environment variable %s", sign.PasswordVariable)
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	type answer struct {
		password []byte
		err      error
	}
	typed := make(chan answer, 1)
	fmt.Fprint(tty, question)
	go func() {
		password, err := term.ReadPassword(fd)
		typed <- answer{password, err}
	}()
	defer fmt.Fprintln(tty)
	select {
	case a := <-typed:
		return a.password, a.err
	case <-ctx.Done():
		return nil, errors.Join(errors.New("no password was given"), term.Restore(fd, before))
	}
}
