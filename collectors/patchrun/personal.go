package patchrun

import (
	"bytes"
	"regexp"
	"strings"
)

// What names a person is left out here, before anything is hashed, so that the
// artifact is what it claims to be, needs no encryption, and payload and artifact
// agree:
//
//   - the lines Requested-By (the account that called sudo) and Comment (free
//     text), and lines that we do not know, are not part of the artifact;
//   - /home/NAME becomes /home/~, wherever it stands;
//   - what stands before an @ becomes ~: mail addresses, user:password@ in the
//     address of a proxy;
//   - the account in Requested-By, where the same stanza uses it as part of a
//     path or as ~NAME, becomes ~.
//
// Redacting twice changes nothing (FuzzParseHistory).
var (
	homePath  = regexp.MustCompile(`/home/+[^/\s"'` + "`" + `,;:=()<>|&$]+`)
	urlUser   = regexp.MustCompile(`://[^\s"'/]+@`)
	urlSecret = regexp.MustCompile(`://[^\s"']*@`)
	mailUser  = regexp.MustCompile(`[^\s"'/=,;:~@()<>]+@`)
)

// redact returns text without what names a person; account is the one of
// Requested-By, or empty.
func redact(text []byte, account string) []byte {
	if bytes.IndexByte(text, '@') >= 0 {
		text = urlUser.ReplaceAll(text, []byte("://~@"))
		text = urlSecret.ReplaceAllFunc(text, cutSecret)
		text = mailUser.ReplaceAll(text, []byte("~@"))
	}
	if bytes.Contains(text, []byte("/home/")) {
		text = homePath.ReplaceAll(text, []byte("/home/~"))
	}
	if account != "" && account != "root" && bytes.Contains(text, []byte(account)) {
		text = replaceAccount(text, account)
	}
	return text
}

// cutSecret handles a password with a slash in it, as in
// http://alice:pa/ss@proxy: a colon before the first slash, an @ after it. A path
// with an @ in it is left to mailUser.
func cutSecret(address []byte) []byte {
	rest := address[len("://"):]
	slash := bytes.IndexByte(rest, '/')
	if slash < 0 {
		return []byte("://~@")
	}
	colon := bytes.LastIndexByte(rest[:slash], ':')
	if colon < 0 || isPort(rest[colon+1:slash]) {
		return address
	}
	return []byte("://~@")
}

func isPort(b []byte) bool {
	return len(b) > 0 && len(b) <= 5 && strings.Trim(string(b), "0123456789") == ""
}

// replaceAccount replaces /NAME and ~NAME where the name ends there. The bare
// word stays: accounts are called git or postgres, and so are packages.
func replaceAccount(text []byte, account string) []byte {
	name := regexp.MustCompile(`([/~])` + regexp.QuoteMeta(account) + `(/|\s|["',;:=)]|$)`)
	for {
		next := name.ReplaceAll(text, []byte("${1}~${2}"))
		if bytes.Equal(next, text) {
			return text
		}
		text = next
	}
}
