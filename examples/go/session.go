// Calls a PDS with a session that idiolectd keeps alive (docs/store-format.md), with Go's standard library alone:
//
//	echo com.atproto.server.getSession | go run . /run/idiolectd/clients DID
//
// calls the method of each line of standard input, and prints what it answers. The clients' view is read for every
// request, and nothing is refreshed.
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	patience = 10 * time.Second      // how long a rotation may take
	pause    = 20 * time.Millisecond // between two looks at the record
)

var b64 = base64.RawURLEncoding

// Record is what a client needs of one.
type Record struct {
	DID       string `json:"did"`
	PdsURL    string `json:"pdsUrl"`
	AltPdsURL string `json:"pds_url"`
	AccessJwt string `json:"accessJwt"`
	JWK       string `json:"dpopPrivateKeyJwk"`
	State     string `json:"state"`
	Cause     string `json:"cause"`
}

// FileName says where the record of a DID lies in the view.
func FileName(did string) string {
	part := strings.SplitN(did, ":", 3)
	part[2] = strings.NewReplacer("_", "~5F", ":", "~3A").Replace(part[2])
	return strings.Join(part, "_") + ".json"
}

// TokenHash is how a token is named to the daemon.
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return b64.EncodeToString(sum[:])
}

// ParseRecord reads the record of a DID.
func ParseRecord(text []byte, did string) (Record, error) {
	var record Record
	if err := json.Unmarshal(text, &record); err != nil {
		return record, err
	}
	if record.PdsURL == "" {
		record.PdsURL = record.AltPdsURL
	}
	if record.AccessJwt == "" || record.PdsURL == "" || record.DID != did {
		return record, fmt.Errorf("no record of %s", did)
	}
	return record, nil
}

// Session is one account's, in a view.
type Session struct {
	View, DID string
	nonce     string
}

func (s *Session) read() (Record, error) {
	text, err := os.ReadFile(filepath.Join(s.View, FileName(s.DID)))
	if err != nil {
		return Record{}, err
	}
	return ParseRecord(text, s.DID)
}

// Call sends a request to the session's PDS and returns status and body; a refused one once more with a newer token.
func (s *Session) Call(method, path string, body []byte) (int, []byte, error) {
	record, err := s.read()
	if err != nil {
		return 0, nil, err
	}
	status, answer, isRefused, err := s.send(record, method, path, body)
	if err != nil || !isRefused {
		return status, answer, err
	}
	refused := record.AccessJwt
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(pause) {
		if record, err = s.read(); err != nil {
			return 0, nil, err
		}
		if record.AccessJwt != refused {
			status, answer, _, err = s.send(record, method, path, body)
			return status, answer, err
		}
		if record.State == "relogin_required" || record.State == "suspended" {
			return 0, nil, fmt.Errorf("%s: %s, %s", s.DID, record.State, record.Cause)
		}
	}
	note := filepath.Join(s.View, "refused", s.DID+"~"+TokenHash(refused))
	_ = os.WriteFile(note, nil, 0o600) // the daemon looks at the session at once, if we may ask for it
	return status, answer, nil
}

func (s *Session) send(r Record, method, path string, body []byte) (int, []byte, bool, error) {
	for mayRepeat := true; ; mayRepeat = false {
		target := strings.TrimSuffix(r.PdsURL, "/") + path
		request, err := http.NewRequest(method, target, bytes.NewReader(body))
		if err != nil {
			return 0, nil, false, err
		}
		if body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		request.Header.Set("Authorization", "Bearer "+r.AccessJwt)
		if r.JWK != "" {
			proof, err := Proof(r, method, request.URL, s.nonce)
			if err != nil {
				return 0, nil, false, err
			}
			request.Header.Set("Authorization", "DPoP "+r.AccessJwt)
			request.Header.Set("DPoP", proof)
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, nil, false, err
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return 0, nil, false, err
		}
		if nonce := response.Header.Get("DPoP-Nonce"); nonce != "" {
			s.nonce = nonce
		}
		var failure struct{ Error string }
		if response.StatusCode == 400 || response.StatusCode == 401 {
			_ = json.Unmarshal(answer, &failure) // a body of another kind has no error's name
		}
		if failure.Error == "use_dpop_nonce" && mayRepeat {
			continue
		}
		return response.StatusCode, answer, response.StatusCode == 401 || failure.Error == "ExpiredToken", nil
	}
}

// The token must not go where a redirect leads.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// Proof makes a DPoP proof (RFC 9449, section 4.2).
func Proof(r Record, method string, target *url.URL, nonce string) (string, error) {
	var jwk struct{ Kty, Crv, X, Y, D string }
	if err := json.Unmarshal([]byte(r.JWK), &jwk); err != nil {
		return "", err
	}
	secret, err := b64.DecodeString(jwk.D)
	if err != nil || jwk.Crv != "P-256" {
		return "", errors.New("no private key of P-256")
	}
	key := &ecdsa.PrivateKey{D: new(big.Int).SetBytes(secret)}
	key.Curve = elliptic.P256()
	key.X, key.Y = key.Curve.ScalarBaseMult(secret)
	jti := make([]byte, 16)
	if _, err := rand.Read(jti); err != nil {
		return "", err
	}
	public := map[string]string{"kty": jwk.Kty, "crv": jwk.Crv, "x": jwk.X, "y": jwk.Y}
	claims := map[string]any{
		"jti": b64.EncodeToString(jti), "htm": method, "htu": target.Scheme + "://" + target.Host + target.EscapedPath(),
		"iat": time.Now().Unix(), "ath": TokenHash(r.AccessJwt),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	header, err := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": public})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := b64.EncodeToString(header) + "." + b64.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	first, second, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	first.FillBytes(signature[:32])
	second.FillBytes(signature[32:])
	return signed + "." + b64.EncodeToString(signature), nil
}

func main() {
	session := &Session{View: os.Args[1], DID: os.Args[2]}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		status, answer, err := session.Call("GET", "/xrpc/"+lines.Text(), nil)
		if err != nil || status != 200 {
			fmt.Fprintln(os.Stderr, status, string(answer), err)
			os.Exit(1)
		}
		fmt.Println(string(answer))
	}
}
