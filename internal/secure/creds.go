package secure

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// Credentials are gRPC's for connections that this process makes; each uses what the
// files say when it is made.
func (f *Files) Credentials() credentials.TransportCredentials { return creds{f} }

type creds struct{ f *Files }

// Info implements credentials.TransportCredentials.
func (creds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c creds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials: nobody may.
func (creds) OverrideServerName(string) error {
	return errors.New("the other end's name is that of its address")
}

// ClientHandshake implements credentials.TransportCredentials.
func (c creds) ClientHandshake(ctx context.Context, address string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := credentials.NewTLS(c.f.Dialing("")).ClientHandshake(ctx, address, raw) // it takes the host from address
	if err != nil {
		return nil, nil, c.f.Explain(err)
	}
	return conn, info, nil
}

// ServerHandshake implements credentials.TransportCredentials.
func (creds) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for connections that this process makes")
}
