//go:build linux

package hostile

import (
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	goverse_pb "github.com/xiaonanln/goverse/proto"
)

// forgeries pretend to be somebody whom the cluster knows: each is refused, and audited.
func forgeries(s *siege) string {
	for _, f := range []struct {
		name, audited string
		forge         func() bool // whether it was refused
	}{
		{"a call to a node's port", "not_a_member at members", s.callsNode},
		{"a page of others at the gate", "origin at http", func() bool { return s.fromElsewhere(s.HTTP, "/api/v1/objects/Room/siege/Say") }},
		{"a page of others at the operations port", "origin at operations", func() bool { return s.fromElsewhere(s.Ops, "/metrics") }},
		{"a page of others at the inspector", "origin at inspector", func() bool { return s.fromElsewhere(s.Inspector, "/api/v1/snapshot") }},
		{"a token that was used", "session_token at http", s.replaysToken},
		{"a token of another gate", "session_token at http", func() bool {
			_, _, resumed := s.resume("b3RoZXI.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
			return !resumed
		}},
	} {
		before := s.state()
		if !f.forge() {
			s.Errorf("%s was not refused", f.name)
		}
		if now := s.state(); now.Denials[f.audited] == before.Denials[f.audited] {
			s.Errorf("%s was not audited; there were %v", f.name, now.Denials)
		}
	}
	return "refused, audited"
}

// callsNode calls a node as its peers do, without having greeted it.
func (s *siege) callsNode() bool {
	cc, err := grpc.NewClient("passthrough:///"+s.Node, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.Fatal(err)
	}
	defer cc.Close()
	_, err = goverse_pb.NewPeerServiceClient(cc).Call(s.Context(), &goverse_pb.CallRequest{})
	return status.Code(err) == codes.Unauthenticated
}

// fromElsewhere asks as a web page of another origin does.
func (s *siege) fromElsewhere(port, path string) bool {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "http://"+port+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Origin", "https://evil.example.com")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := tr.RoundTrip(r)
	if err != nil {
		s.Error(err)
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusForbidden
}

// replaysToken resumes a session twice with one token.
func (s *siege) replaysToken() bool {
	id, token, _ := s.resume("")
	again, _, resumed := s.resume(token)
	if !resumed || again != id {
		s.Error("a token does not resume its session")
	}
	stolen, _, resumed := s.resume(token)
	return !resumed && stolen != id
}

// resume opens a session with a token, and is what the gate says of it.
func (s *siege) resume(token string) (id, next string, resumed bool) {
	s.Helper()
	w := s.socket(s.newcomer(), "?hello=1")
	hello, _ := json.Marshal(map[string]any{"op": "hello", "token": token}) // strings
	if _, err := w.Write(whole(final|text, string(hello))); err != nil {
		s.Error(err)
	}
	_ = w.SetReadDeadline(time.Now().Add(patience))
	var f struct {
		Op, ClientID, Token string
		Resumed             bool
	}
	for f.Op != "register" {
		_, b, err := w.next()
		if err == nil {
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			s.Errorf("no register: %v", err)
			return "", "", false
		}
	}
	return f.ClientID, f.Token, f.Resumed
}
