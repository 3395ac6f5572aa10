package bank

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/xiaonanln/goverse/goverseapi"
)

// Clerk moves money between two accounts that are not its own. Its state is how many
// orders it has carried out.
type Clerk struct {
	goverseapi.BaseObject
	carried int64
}

// Order is a request to a clerk.
func Order(id, from, to string, amount int64) *structpb.Struct {
	r := Transfer(id, to, amount)
	r.Fields["from"] = structpb.NewStringValue(from)
	return r
}

// Carry takes the money by a nested call, and sends it on by a one-way call: between the
// two it is nowhere but in what the calls' ids stand for.
func (c *Clerk) Carry(ctx context.Context, r *structpb.Struct) (*wrapperspb.Int64Value, error) {
	if _, err := goverseapi.CallObject(ctx, "Account", text(r, "from"), "Withdraw", r); err != nil {
		return nil, fmt.Errorf("the withdrawal: %w", err)
	}
	if err := goverseapi.Send(ctx, "Account", text(r, "to"), "Deposit", r); err != nil {
		return nil, err
	}
	c.carried++
	return wrapperspb.Int64(c.carried), nil
}

// Withdraw is a clerk's side of a transfer.
func (a *Account) Withdraw(ctx context.Context, r *structpb.Struct) (*wrapperspb.Int64Value, error) {
	if a.balance < amount(r) {
		return nil, fmt.Errorf("%s has %d, not %d", a.Id(), a.balance, amount(r))
	}
	return a.apply(ctx, r, -amount(r))
}

// Look is how many orders the clerk has carried out.
func (c *Clerk) Look(context.Context, *structpb.Struct) (*wrapperspb.Int64Value, error) {
	return wrapperspb.Int64(c.carried), nil
}

// ToData implements object.Object.
func (c *Clerk) ToData() (proto.Message, error) { return wrapperspb.Int64(c.carried), nil }

// FromData implements object.Object.
func (c *Clerk) FromData(data proto.Message) error {
	if n, ok := data.(*wrapperspb.Int64Value); ok {
		c.carried = n.GetValue()
	}
	return nil
}
