package codec_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/redisctl/redisctl/internal/snapshot/codec"
)

// key is a new age key: whom to encrypt to, and what opens it.
func key(t testing.TB) (recipient, identity string) {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return k.Recipient().String(), k.String()
}

func recipients(t testing.TB, names ...string) []codec.Recipient {
	t.Helper()
	var all []codec.Recipient
	for _, name := range names {
		r, err := codec.ParseRecipient(name)
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func keys(t testing.TB, identities ...string) *codec.Keys {
	t.Helper()
	k := &codec.Keys{}
	for _, identity := range identities {
		require.NoError(t, k.AddIdentities(strings.NewReader(identity), nil))
	}
	return k
}

func passphrase(word string) *codec.Keys {
	k := &codec.Keys{}
	k.SetPassphrase(func() (string, error) { return word, nil })
	return k
}

func encode(t testing.TB, e codec.Encoding, contents []byte) []byte {
	t.Helper()
	require.NoError(t, e.Check())
	var out bytes.Buffer
	w, err := e.NewWriter(&out)
	require.NoError(t, err)
	_, err = w.Write(contents)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func decode(data []byte, keys *codec.Keys) ([]byte, []string, error) {
	r, err := codec.NewReader(bytes.NewReader(data), keys)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	contents, err := io.ReadAll(r)
	return contents, r.Codecs(), err
}

// text is what compresses somewhat.
func text(n int) []byte {
	random := mathrand.New(mathrand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "key:%d=%d;", random.IntN(1000), random.IntN(10))
	}
	return b.Bytes()[:n]
}

// TestRoundTrip: all encodings, many sizes.
func TestRoundTrip(t *testing.T) {
	to, identity := key(t)
	opened := keys(t, identity)
	rapid.Check(t, func(rt *rapid.T) {
		e := codec.Encoding{Level: codec.Level(rapid.SampledFrom(append(codec.Levels(), "")).Draw(rt, "level"))}
		if rapid.Bool().Draw(rt, "encrypted") {
			e.Recipients = recipients(t, to)
		}
		contents := text(rapid.OneOf(rapid.IntRange(0, 100), rapid.SampledFrom([]int{64<<10 - 1, 64 << 10, 200_000})).Draw(rt, "size"))
		data := encode(t, e, contents)
		got, codecs, err := decode(data, opened)
		require.NoError(rt, err)
		require.True(rt, bytes.Equal(contents, got))
		require.Equal(rt, e.Codecs(), codecs)
		if len(e.Recipients) > 0 && len(contents) > 20 {
			require.NotContains(rt, string(data), string(contents[:20]))
		}
	})
}

func TestRecipients(t *testing.T) {
	to, identity := key(t)
	other, otherIdentity := key(t)
	_, stranger := key(t)
	pq, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	sshTo, sshIdentity := sshKey(t, "")

	contents := text(1000)
	both := encode(t, codec.Encoding{Level: codec.Default, Recipients: recipients(t, to, other)}, contents)
	for _, identity := range []string{identity, otherIdentity, "# a comment\n" + identity + "\n", stranger + "\n" + identity} {
		got, _, err := decode(both, keys(t, identity))
		require.NoError(t, err)
		assert.Equal(t, contents, got)
	}
	for name, c := range map[string]struct {
		to       string
		identity string
	}{
		"ssh-ed25519":  {sshTo + " somebody@somewhere", sshIdentity},
		"post-quantum": {pq.Recipient().String(), pq.String()},
	} {
		t.Run(name, func(t *testing.T) {
			e := codec.Encoding{Recipients: recipients(t, c.to)}
			got, _, err := decode(encode(t, e, contents), keys(t, stranger, c.identity))
			require.NoError(t, err)
			assert.Equal(t, contents, got)
			assert.NotContains(t, e.Names()[0], "somebody", "the comment of a key is not recorded")
		})
	}

	for name, c := range map[string]struct {
		keys *codec.Keys
		says string
	}{
		"nothing at all": {nil, "encrypted to 2 recipients (X25519, X25519), and no identity was given"},
		"a stranger's":   {keys(t, stranger), "none of the identities given opens it; it is encrypted to 2 recipients"},
		"a passphrase":   {passphrase("guess"), "no identity was given"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := decode(both, c.keys)
			require.ErrorIs(t, err, codec.ErrKey)
			require.NotErrorIs(t, err, codec.ErrCorrupt)
			require.ErrorContains(t, err, c.says)
		})
	}

	mixed := codec.Encoding{Recipients: recipients(t, to, pq.Recipient().String())}
	require.ErrorContains(t, mixed.Check(), "post-quantum")
}

func sshKey(t testing.TB, passphrase string) (recipient, identity string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	sshPublic, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPublic))), string(pem.EncodeToMemory(block))
}

func TestSSHKeyWithAPassphrase(t *testing.T) {
	to, identity := sshKey(t, "secret words")
	data := encode(t, codec.Encoding{Recipients: recipients(t, to)}, text(10))
	ask := func(answer string) func() (string, error) { return func() (string, error) { return answer, nil } }

	var k codec.Keys
	require.ErrorContains(t, k.AddIdentities(strings.NewReader(identity), nil), "no terminal")
	err := k.AddIdentities(strings.NewReader(identity), ask("wrong words"))
	require.ErrorIs(t, err, codec.ErrKey)
	assert.NotContains(t, err.Error(), "wrong words")
	require.NoError(t, k.AddIdentities(strings.NewReader(identity), ask("secret words")))
	got, _, err := decode(data, &k)
	require.NoError(t, err)
	assert.Equal(t, text(10), got)
}

func TestPassphrase(t *testing.T) {
	r, err := codec.PassphraseRecipient("correct horse")
	require.NoError(t, err)
	e := codec.Encoding{Level: codec.Fastest, Recipients: []codec.Recipient{r}}
	assert.Equal(t, []string{"passphrase"}, e.Names())
	data := encode(t, e, text(1000))

	got, _, err := decode(data, passphrase("correct horse"))
	require.NoError(t, err)
	assert.Equal(t, text(1000), got)

	_, _, err = decode(data, passphrase("wrong horse"))
	require.ErrorIs(t, err, codec.ErrKey)
	assert.NotContains(t, err.Error(), "horse")
	_, identity := key(t)
	_, _, err = decode(data, keys(t, identity))
	require.ErrorIs(t, err, codec.ErrKey)
	require.ErrorContains(t, err, "with a passphrase, and none was given")

	interrupted := errors.New("interrupted")
	var asked codec.Keys
	asked.SetPassphrase(func() (string, error) { return "", interrupted })
	_, _, err = decode(data, &asked)
	require.ErrorIs(t, err, interrupted)
	require.NotErrorIs(t, err, codec.ErrKey)

	to, _ := key(t)
	e.Recipients = append(e.Recipients, recipients(t, to)...)
	require.ErrorContains(t, e.Check(), "cannot be combined")
	_, err = codec.PassphraseRecipient("")
	require.Error(t, err)
}

// A file of a stranger may not make redisctl spend gigabytes on a passphrase.
func TestPassphraseThatCostsTooMuch(t *testing.T) {
	header := "age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 30\nZV/AhotwSGqaPCU43cepl4WYUouAa17a3xpu4G2yi5k\n--- fgMiVLJHMlg9fW7CVG/hPS5EAU4Zeg19LyCP7SoH5nA\n"
	_, _, err := decode([]byte(header), passphrase("x"))
	require.ErrorIs(t, err, codec.ErrUnsupported)
	require.NotErrorIs(t, err, codec.ErrCorrupt)
}

// No single wrong bit goes unnoticed in encrypted data, and none changes the
// contents of compressed data. What is reported as another key's can only be damage
// of the part that says whose it is.
func TestBitFlips(t *testing.T) {
	to, identity := key(t)
	opened := keys(t, identity)
	contents := text(300)
	for name, e := range map[string]codec.Encoding{
		"zstd":     {Level: codec.Default},
		"age":      {Recipients: recipients(t, to)},
		"zstd age": {Level: codec.Default, Recipients: recipients(t, to)},
	} {
		t.Run(name, func(t *testing.T) {
			data := encode(t, e, contents)
			noticed := 0
			for i := range data {
				for bit := range 8 {
					flipped := bytes.Clone(data)
					flipped[i] ^= 1 << bit
					got, codecs, err := decode(flipped, opened)
					switch {
					case err != nil:
						require.True(t, errors.Is(err, codec.ErrCorrupt) || errors.Is(err, codec.ErrUnsupported) || errors.Is(err, codec.ErrKey), "bit %d of byte %d: %v", bit, i, err)
						noticed++
					case len(codecs) == 0: // the magic is damaged: what reads the contents finds that
						require.False(t, bytes.Equal(contents, got))
						noticed++
					default:
						require.Empty(t, e.Recipients, "bit %d of byte %d", bit, i)
						require.Equal(t, contents, got, "bit %d of byte %d", bit, i)
					}
				}
			}
			assert.Greater(t, noticed, len(data)*8*95/100)
		})
	}
}

func TestTruncated(t *testing.T) {
	to, identity := key(t)
	opened := keys(t, identity)
	for name, e := range map[string]codec.Encoding{
		"zstd":     {Level: codec.Default},
		"age":      {Recipients: recipients(t, to)},
		"zstd age": {Level: codec.Default, Recipients: recipients(t, to)},
	} {
		t.Run(name, func(t *testing.T) {
			data := encode(t, e, text(300))
			for n := 22; n < len(data); n++ { // behind the longest magic
				_, _, err := decode(data[:n], opened)
				require.ErrorIs(t, err, codec.ErrCorrupt, "%d of %d bytes", n, len(data))
			}
			for _, behind := range []string{"\x00", "x", "garbage that is longer"} {
				_, _, err := decode(append(bytes.Clone(data), behind...), opened)
				require.ErrorIs(t, err, codec.ErrCorrupt, "%q behind the end", behind)
			}
		})
	}
	// Longer than a chunk of age's: it must not be cut between two of them.
	long := encode(t, codec.Encoding{Recipients: recipients(t, to)}, text(200_000))
	_, _, err := decode(long[:len(long)-200_000%(64<<10)-16], opened)
	require.ErrorIs(t, err, codec.ErrCorrupt)
}

// An error of the storage is not taken for damage, wherever it happens.
func TestReadErrorsArePassedOn(t *testing.T) {
	to, identity := key(t)
	opened := keys(t, identity)
	broken := errors.New("the network is gone")
	for _, e := range []codec.Encoding{{}, {Level: codec.Default}, {Recipients: recipients(t, to)}, {Level: codec.Default, Recipients: recipients(t, to)}} {
		data := encode(t, e, text(300))
		for n := range data {
			for _, cause := range []error{broken, io.ErrUnexpectedEOF} {
				r, err := codec.NewReader(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(cause)), opened)
				if err == nil {
					_, err = io.ReadAll(r)
					r.Close()
				}
				require.ErrorIs(t, err, cause, "%v after %d bytes", e.Codecs(), n)
				require.NotErrorIs(t, err, codec.ErrCorrupt)
			}
		}
	}
}

// failing is a writer that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteErrorsArePassedOn(t *testing.T) {
	to, _ := key(t)
	full := errors.New("the disk is full")
	for _, e := range []codec.Encoding{{Level: codec.Default}, {Level: codec.Better, Recipients: recipients(t, to)}, {Recipients: recipients(t, to)}} {
		w, err := e.NewWriter(failing{full})
		if err == nil {
			_, err = io.Copy(w, bytes.NewReader(text(4<<20)))
			if err == nil {
				err = w.Close()
			}
			w.Discard()
		}
		require.ErrorIs(t, err, full, "%v", e.Codecs())
	}
}

// The tools that everybody has read what redisctl writes, and the other way round.
func TestZstdTool(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the real zstd: run without -short")
	}
	tool, err := exec.LookPath("zstd")
	if err != nil {
		t.Fatal("zstd is missing: apt-get install zstd")
	}
	contents := text(1 << 20)
	for _, level := range codec.Levels() {
		cmd := exec.Command(tool, "-d", "-c")
		cmd.Stdin = bytes.NewReader(encode(t, codec.Encoding{Level: codec.Level(level)}, contents))
		got, err := cmd.Output()
		require.NoError(t, err, level)
		assert.True(t, bytes.Equal(contents, got))
	}
	for _, arguments := range []string{"-1", "-3", "-19", "-3 --no-check", "-3 --rsyncable"} {
		cmd := exec.Command(tool, append(strings.Fields(arguments), "-c")...)
		cmd.Stdin = bytes.NewReader(contents)
		data, err := cmd.Output()
		require.NoError(t, err, arguments)
		got, _, err := decode(data, nil)
		require.NoError(t, err, arguments)
		assert.True(t, bytes.Equal(contents, got))
	}
	cmd := exec.Command(tool, "--long=27", "-c")
	cmd.Stdin = bytes.NewReader(contents)
	data, err := cmd.Output()
	require.NoError(t, err)
	_, _, err = decode(data, nil)
	require.ErrorIs(t, err, codec.ErrUnsupported, "a window of 128 MiB")
	require.NotErrorIs(t, err, codec.ErrCorrupt)
}

// The library itself, without the code under test on the other side.
func TestAgeLibrary(t *testing.T) {
	to, identity := key(t)
	parsed, err := age.ParseX25519Identity(identity)
	require.NoError(t, err)
	contents := text(100_000)
	decrypted, err := age.Decrypt(bytes.NewReader(encode(t, codec.Encoding{Level: codec.Default, Recipients: recipients(t, to)}, contents)), parsed)
	require.NoError(t, err)
	plain, err := zstd.NewReader(decrypted)
	require.NoError(t, err)
	defer plain.Close()
	got, err := io.ReadAll(plain)
	require.NoError(t, err)
	assert.Equal(t, contents, got)

	var data bytes.Buffer
	w, err := age.Encrypt(&data, parsed.Recipient())
	require.NoError(t, err)
	_, err = w.Write(contents)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	got, codecs, err := decode(data.Bytes(), keys(t, identity))
	require.NoError(t, err)
	assert.Equal(t, contents, got)
	assert.Equal(t, []string{codec.Age}, codecs)
}

func TestParseCompression(t *testing.T) {
	for s, want := range map[string]codec.Level{
		"": "", "none": "", "zstd": codec.Default, "zstd:fastest": codec.Fastest, "zstd:better": codec.Better,
		"zstd:1": codec.Fastest, "zstd:3": codec.Default, "zstd:7": codec.Better, "zstd:9": codec.Better,
	} {
		got, err := codec.ParseCompression(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"gzip", "zstd:", "zstd:0", "zstd:10", "zstd:-1", "zstd:best", "ZSTD", "fastest"} {
		_, err := codec.ParseCompression(s)
		require.Error(t, err, s)
	}
}

// What is given in the wrong place may be a secret. It is not repeated.
func TestSecretsAreNotRepeated(t *testing.T) {
	_, identity := key(t)
	_, sshIdentity := sshKey(t, "")
	const secret = "hunter2"
	for _, s := range []string{identity, strings.ToLower(identity), sshIdentity, secret, "age1" + secret, "ssh-ed25519 " + secret, identity[:len(identity)-1]} {
		_, err := codec.ParseRecipient(s)
		require.Error(t, err)
		for _, part := range []string{identity[20:40], strings.ToLower(identity[20:40]), sshIdentity[100:120], secret} {
			assert.NotContains(t, err.Error(), part)
		}
	}
	for _, s := range []string{secret, identity[:len(identity)-1], identity + "x", strings.Replace(sshIdentity, "A", "B", 20)} {
		err := new(codec.Keys).AddIdentities(strings.NewReader(s), nil)
		require.Error(t, err)
		for _, part := range []string{identity[20:40], sshIdentity[100:120], secret} {
			assert.NotContains(t, err.Error(), part)
		}
	}
	_, err := codec.ParseRecipients(strings.NewReader("# mine\n" + identity + "\n"))
	require.ErrorContains(t, err, "line 2: this is a secret key")
}

func TestParseRecipients(t *testing.T) {
	to, _ := key(t)
	sshTo, _ := sshKey(t, "")
	found, err := codec.ParseRecipients(strings.NewReader("# ops\n" + to + "\n\n  " + sshTo + " me@here\r\n"))
	require.NoError(t, err)
	require.Len(t, found, 2)
	assert.Equal(t, to, found[0].String())
	assert.Equal(t, sshTo, found[1].String())
	for _, s := range []string{"", "# nobody\n", strings.Repeat("#\n", 1<<20)} {
		_, err := codec.ParseRecipients(strings.NewReader(s))
		require.Error(t, err)
	}
}

// A hostile header is neither echoed at length nor printed raw.
func TestHostileHeader(t *testing.T) {
	long := strings.Repeat("\x1b[2J", 10_000)
	for _, s := range []string{"-> " + long + "\n", "-> X25519 " + long + "\n" + long + "\n", long} {
		_, _, err := decode([]byte("age-encryption.org/v1\n"+s), nil)
		require.Error(t, err)
		assert.Less(t, len(err.Error()), 1000)
		assert.NotContains(t, err.Error(), "\x1b")
	}
}

// FuzzReader: whatever comes, reading ends, in bounded memory, without a panic.
func FuzzReader(f *testing.F) {
	to, identity := key(f)
	opened := keys(f, identity)
	f.Add(text(10))
	f.Add(encode(f, codec.Encoding{Level: codec.Default}, text(100)))
	f.Add(encode(f, codec.Encoding{Level: codec.Default, Recipients: recipients(f, to)}, text(100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := codec.NewReader(bytes.NewReader(data), opened)
		if err != nil {
			return
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(r, 64<<20))
		if err != nil && !errors.As(err, new(*codec.Error)) {
			t.Fatal(err)
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	to, _ := key(b)
	contents := text(32 << 20)
	for _, level := range append(codec.Levels(), "") {
		for _, encrypted := range []bool{false, true} {
			e := codec.Encoding{Level: codec.Level(level)}
			if encrypted {
				e.Recipients = recipients(b, to)
			}
			if len(e.Codecs()) == 0 {
				continue
			}
			b.Run(strings.Join(append(e.Codecs(), level), " "), func(b *testing.B) {
				b.SetBytes(int64(len(contents)))
				b.ReportAllocs()
				for b.Loop() {
					w, err := e.NewWriter(io.Discard)
					require.NoError(b, err)
					_, err = io.Copy(w, bytes.NewReader(contents))
					require.NoError(b, err)
					require.NoError(b, w.Close())
				}
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	to, identity := key(b)
	opened := keys(b, identity)
	contents := text(32 << 20)
	for _, e := range []codec.Encoding{{Level: codec.Default}, {Recipients: recipients(b, to)}, {Level: codec.Default, Recipients: recipients(b, to)}} {
		data := encode(b, e, contents)
		b.Run(strings.Join(e.Codecs(), " "), func(b *testing.B) {
			b.SetBytes(int64(len(contents)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := codec.NewReader(bytes.NewReader(data), opened)
				require.NoError(b, err)
				_, err = io.Copy(io.Discard, r)
				require.NoError(b, err)
				r.Close()
			}
		})
	}
}
