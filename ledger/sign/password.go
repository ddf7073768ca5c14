package sign

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
)

// PasswordVariable is the environment variable with the password of key files.
const PasswordVariable = "LEDGER_KEY_PASSWORD"

// minPassword is how many bytes the password of a new key has at least.
const minPassword = 12

// PasswordFrom gives the password for Options from a file, which only its owner
// can read and whose last line end does not count; without a file, from
// LEDGER_KEY_PASSWORD; without that, from ask, with what to ask for. A new
// password is asked for twice. What was read or asked for once holds for all
// keys of the process. Nil for ask: there is nobody to ask.
func PasswordFrom(file string, ask func(question string) ([]byte, error)) func(string, bool) ([]byte, error) {
	var mu sync.Mutex
	var known []byte
	return func(path string, fresh bool) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if known == nil {
			password, err := findPassword(file, path, fresh, ask)
			if err != nil {
				return nil, err
			}
			known = password
		}
		if fresh && len(known) < minPassword {
			return nil, fmt.Errorf("the password has %d bytes; a new key gets one of at least %d", len(known), minPassword)
		}
		return bytes.Clone(known), nil
	}
}

func findPassword(file, path string, fresh bool, ask func(string) ([]byte, error)) ([]byte, error) {
	if file != "" {
		raw, err := ReadSecret(file)
		if err != nil {
			return nil, fmt.Errorf("the password file: %w", err)
		}
		raw = bytes.TrimSuffix(raw, []byte("\n"))
		return bytes.TrimSuffix(raw, []byte("\r")), nil
	}
	if password := os.Getenv(PasswordVariable); password != "" {
		return []byte(password), nil
	}
	if ask == nil {
		return nil, errNoPassword
	}
	if !fresh {
		return ask("Password of " + path + ": ")
	}
	password, err := ask(fmt.Sprintf("New password for %s, at least %d characters: ", path, minPassword))
	if err != nil {
		return nil, err
	}
	again, err := ask("Once more: ")
	if err == nil && !bytes.Equal(password, again) {
		err = errors.New("the two passwords differ; no key was made")
	}
	return password, err
}
