package cluster

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
)

// Vault is told secrets, keeps them, and tells them those who ask.
type Vault struct {
	goverseapi.BaseObject
	secret string
}

// nextVault is where vaults keep a second copy.
var nextVault atomic.Pointer[string]

func (v *Vault) ToData() (proto.Message, error) { return wrapperspb.String(v.secret), nil }

func (v *Vault) FromData(m proto.Message) error {
	if s, ok := m.(*wrapperspb.StringValue); ok {
		v.secret = s.Value
	}
	return nil
}

func secretOf(m *structpb.Struct) *wrapperspb.StringValue {
	return wrapperspb.String(m.GetFields()["secret"].GetStringValue())
}

// Keep saves a secret here and elsewhere, by a call and by what is sent, pushes it to the
// client, and returns it.
func (v *Vault) Keep(ctx context.Context, m *structpb.Struct) (*structpb.Struct, error) {
	v.secret = secretOf(m).Value
	if _, err := goverseapi.CallObject(ctx, "Vault", *nextVault.Load(), "Copy", secretOf(m)); err != nil {
		return nil, err
	}
	if err := goverseapi.Send(ctx, "Vault", *nextVault.Load(), "Copy", secretOf(m)); err != nil {
		return nil, err
	}
	if id := goverseapi.CallerClientID(ctx); id != "" {
		if err := goverseapi.PushMessageToClient(ctx, id, secretOf(m)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Copy is for vaults.
func (v *Vault) Copy(_ context.Context, secret *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	v.secret = secret.Value
	return secret, nil
}

// Look shows the secret.
func (v *Vault) Look(context.Context, *structpb.Struct) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(v.secret), nil
}

// Fail says that it does, in words that have no secret.
func (v *Vault) Fail(context.Context, *structpb.Struct) (*structpb.Struct, error) {
	return nil, errors.New("it is stuck")
}

// Panic ends with the whole request.
func (v *Vault) Panic(_ context.Context, m *structpb.Struct) (*structpb.Struct, error) { panic(m) }

// Spoil leaves a state that cannot be stored: it is no UTF-8.
func (v *Vault) Spoil(_ context.Context, m *structpb.Struct) (*structpb.Struct, error) {
	v.secret = secretOf(m).Value + "\xff"
	return m, nil
}

// Bloat leaves a state, and returns a reply, that are too long.
func (v *Vault) Bloat(_ context.Context, m *structpb.Struct) (*wrapperspb.StringValue, error) {
	v.secret = strings.Repeat(secretOf(m).Value, 8<<20/len(secretOf(m).Value))
	return wrapperspb.String(v.secret), nil
}

// Wait takes what not every JSON is.
func (v *Vault) Wait(context.Context, *durationpb.Duration) (*durationpb.Duration, error) {
	return nil, nil
}
