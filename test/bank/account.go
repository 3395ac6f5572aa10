// Package bank moves money between durable objects, in each way in which an object can
// act on another exactly once, and counts what was applied.
package bank

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
	"github.com/xiaonanln/goverse/object"
)

// Account is one account. Its state is its balance and how often each transfer was
// applied to it.
type Account struct {
	goverseapi.BaseObject
	balance int64
	applied map[string]int64
}

// Transfer is a request: amount from the account that is asked to another.
func Transfer(id, to string, amount int64) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{
		"id": structpb.NewStringValue(id), "to": structpb.NewStringValue(to), "amount": structpb.NewNumberValue(float64(amount)),
	}}
}

func text(r *structpb.Struct, name string) string { return r.Fields[name].GetStringValue() }
func amount(r *structpb.Struct) int64             { return int64(r.Fields["amount"].GetNumberValue()) }

// Pay is a transfer by a nested call: the money is there when it returns. It does not ask
// whether the account has it. If its node dies behind the deposit it runs again, when the
// balance may be another, and has to come to the same call.
func (a *Account) Pay(ctx context.Context, r *structpb.Struct) (*wrapperspb.Int64Value, error) {
	if _, err := goverseapi.CallObject(ctx, "Account", text(r, "to"), "Deposit", r); err != nil {
		return nil, fmt.Errorf("the deposit: %w", err)
	}
	return a.apply(ctx, r, -amount(r))
}

// Remit is a transfer by a one-way call: the money is on its way when it returns.
func (a *Account) Remit(ctx context.Context, r *structpb.Struct) (*wrapperspb.Int64Value, error) {
	if a.balance < amount(r) {
		return nil, fmt.Errorf("%s has %d, not %d", a.Id(), a.balance, amount(r))
	}
	if err := goverseapi.Send(ctx, "Account", text(r, "to"), "Deposit", r); err != nil {
		return nil, err
	}
	return a.apply(ctx, r, -amount(r))
}

// Deposit is the other side of a transfer.
func (a *Account) Deposit(ctx context.Context, r *structpb.Struct) (*wrapperspb.Int64Value, error) {
	return a.apply(ctx, r, amount(r))
}

// apply changes the balance, and has it written into the program's own table, in the
// same commit, if the request says so.
func (a *Account) apply(ctx context.Context, r *structpb.Struct, delta int64) (*wrapperspb.Int64Value, error) {
	if a.applied == nil {
		a.applied = map[string]int64{}
	}
	if r.Fields["book"].GetBoolValue() {
		account := a.Id()
		err := goverseapi.OnCommit(ctx, func(ctx context.Context, tx object.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO bank_ledger (order_id, account, amount) VALUES ($1, $2, $3)`, text(r, "id"), account, delta)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	a.balance += delta
	a.applied[text(r, "id")]++
	return wrapperspb.Int64(a.balance), nil
}

// Look is the account's state.
func (a *Account) Look(context.Context, *structpb.Struct) (*structpb.Struct, error) {
	return a.state()
}

func (a *Account) state() (*structpb.Struct, error) {
	applied := map[string]any{}
	for id, n := range a.applied {
		applied[id] = float64(n)
	}
	return structpb.NewStruct(map[string]any{"balance": float64(a.balance), "applied": applied})
}

// ToData implements object.Object.
func (a *Account) ToData() (proto.Message, error) { return a.state() }

// FromData implements object.Object.
func (a *Account) FromData(data proto.Message) error {
	a.applied = map[string]int64{}
	if data == nil {
		return nil
	}
	s := data.(*structpb.Struct)
	a.balance = int64(s.Fields["balance"].GetNumberValue())
	for id, n := range s.Fields["applied"].GetStructValue().GetFields() {
		a.applied[id] = int64(n.GetNumberValue())
	}
	return nil
}
