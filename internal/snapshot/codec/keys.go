package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Keys open encrypted data. The zero value opens none. Once complete it may be
// used by several goroutines.
type Keys struct {
	identities []age.Identity
	passphrase func() (string, error)
}

// AddIdentities adds the secret keys of a file: age identities as age-keygen
// writes them, or one SSH private key. ask returns the passphrase of an SSH key
// that has one; nil refuses such a key. It is asked at once, so that the key is
// known to be usable.
func (k *Keys) AddIdentities(r io.Reader, ask func() (string, error)) error {
	text, err := readBounded(r)
	if err != nil {
		return err
	}
	switch {
	case bytes.Contains(text, []byte("PRIVATE KEY-----")):
		identity, err := parseSSH(text, ask)
		if err != nil {
			return err
		}
		k.identities = append(k.identities, identity)
		return nil
	case bytes.HasPrefix(text, ageMagic), bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED")):
		return errors.New("it is encrypted itself; decrypt it first (age -d)")
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		// Not the error itself, which may quote a part of the key.
		return errors.New("it is neither a list of age identities (AGE-SECRET-KEY-1…, one per line) nor an SSH private key")
	}
	k.identities = append(k.identities, identities...)
	return nil
}

func parseSSH(text []byte, ask func() (string, error)) (age.Identity, error) {
	identity, err := agessh.ParseIdentity(text)
	if missing := (*ssh.PassphraseMissingError)(nil); !errors.As(err, &missing) {
		if err != nil {
			return nil, errors.New("its SSH private key cannot be read, or is neither ed25519 nor RSA")
		}
		return identity, nil
	}
	if ask == nil {
		return nil, errors.New("its SSH private key has a passphrase, and there is no terminal to ask for it")
	}
	passphrase, err := ask()
	if err != nil {
		return nil, err
	}
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(passphrase))
	if err != nil {
		return nil, fmt.Errorf("%w: the passphrase of the SSH private key is not right", ErrKey)
	}
	signer, err := ssh.NewSignerFromKey(raw)
	if err != nil {
		return nil, errors.New("its SSH private key is neither ed25519 nor RSA")
	}
	return agessh.NewEncryptedSSHIdentity(signer.PublicKey(), text, func() ([]byte, error) { return []byte(passphrase), nil })
}

// SetPassphrase says where the passphrase comes from. get is called at most once,
// when data turns out to need it.
func (k *Keys) SetPassphrase(get func() (string, error)) { k.passphrase = sync.OnceValues(get) }

// list returns what age is to try.
func (k *Keys) list() []age.Identity {
	list := []age.Identity{&passphraseIdentity{k}}
	return append(list, k.identities...)
}

// passphraseIdentity asks for the passphrase only if one is needed.
type passphraseIdentity struct{ keys *Keys }

var errNoPassphrase = &Error{Kind: ErrKey, Codec: Age, Msg: "the data is encrypted with a passphrase, and none was given"}

// Unwrap implements age.Identity.
func (p *passphraseIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, age.ErrIncorrectIdentity
	}
	if args := stanzas[0].Args; len(args) == 2 {
		// It is there to let a file of a stranger cost no more memory than our own do.
		if logN, err := strconv.Atoi(args[1]); err == nil && logN > scryptLogN {
			return nil, &Error{
				Kind: ErrUnsupported, Codec: Age,
				Msg: fmt.Sprintf("its passphrase costs 2^%.8d steps, the limit is 2^%d", logN, scryptLogN),
			}
		}
	}
	if p.keys.passphrase == nil {
		return nil, errNoPassphrase
	}
	passphrase, err := p.keys.passphrase()
	if err != nil {
		return nil, &askError{err}
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, &askError{errors.New("the passphrase is empty")}
	}
	identity.SetMaxWorkFactor(scryptLogN)
	defer releaseScrypt()
	return identity.Unwrap(stanzas)
}

// askError is a failure to get the passphrase. It says nothing about the data.
type askError struct{ error }

func (e *askError) Unwrap() error { return e.error }

// explainKey turns an error of age.Decrypt into one of this package.
func (k *Keys) explainKey(err error) error {
	var own *Error
	var ask *askError
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &ask):
		return ask.error
	case errors.As(err, &none):
		return &Error{Kind: ErrKey, Codec: Age, Msg: k.noMatch(none)}
	default:
		return &Error{Kind: ErrCorrupt, Codec: Age, Msg: shorten(err)}
	}
}

func (k *Keys) noMatch(none *age.NoIdentityMatchError) string {
	types := none.StanzaTypes
	switch {
	case len(types) == 1 && types[0] == "scrypt":
		return "the passphrase does not open it"
	case len(k.identities) == 0:
		return fmt.Sprintf("the data is encrypted to %s, and no identity was given", recipientsText(types))
	default:
		return fmt.Sprintf("none of the identities given opens it; it is encrypted to %s", recipientsText(types))
	}
}

// recipientsText counts recipients by what a file says of them, which is their type.
func recipientsText(types []string) string {
	const most = 4
	shown := make([]string, 0, most+1)
	for _, t := range types[:min(len(types), most)] {
		shown = append(shown, strconv.QuoteToASCII(shortText(t))[1:])
		shown[len(shown)-1] = strings.TrimSuffix(shown[len(shown)-1], `"`)
	}
	if len(types) > most {
		shown = append(shown, "…")
	}
	if len(types) == 1 {
		return "1 recipient (" + shown[0] + ")"
	}
	return fmt.Sprintf("%d recipients (%s)", len(types), strings.Join(shown, ", "))
}

// shorten keeps what a hostile header makes the library quote out of terminals.
func shorten(err error) string { return shortText(err.Error()) }

func shortText(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
