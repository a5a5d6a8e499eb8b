package main

import (
	"encoding/json"
	"os"
	"testing"
)

// Compares this reader with the vectors of the format: VECTORS=docs/vectors.json go test
func TestVectors(t *testing.T) {
	var vectors struct {
		DIDs []struct {
			DID, FileName string
		}
		TokenHashes map[string]string
		Records     []struct {
			What, Record string
			Read         struct{ DID, PdsURL, AccessJwt string }
		}
		NoRecords []struct {
			What, Record string
			InView       bool
		}
	}
	text, err := os.ReadFile(os.Getenv("VECTORS"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Records) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, it := range vectors.DIDs {
		if found := FileName(it.DID); found != it.FileName {
			t.Errorf("%s is in %s, not in %s", it.DID, it.FileName, found)
		}
	}
	for token, hash := range vectors.TokenHashes {
		if TokenHash(token) != hash {
			t.Errorf("the hash of %s is %s", token, hash)
		}
	}
	for _, it := range vectors.Records {
		found, err := ParseRecord([]byte(it.Record), it.Read.DID)
		if err != nil || found.PdsURL != it.Read.PdsURL || found.AccessJwt != it.Read.AccessJwt {
			t.Errorf("%s: %v %v", it.What, found, err)
		}
	}
	for _, it := range vectors.NoRecords {
		if found, err := ParseRecord([]byte(it.Record), vectors.DIDs[0].DID); err == nil && !it.InView {
			t.Errorf("%s is read as %v", it.What, found)
		}
	}
}
