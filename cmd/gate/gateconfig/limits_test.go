package gateconfig

import (
	"slices"
	"testing"
)

func TestFlagsOfLimits(t *testing.T) {
	c, err := NewLoader(nil).Load([]string{
		"--etcd", "localhost:2379", "--max-connections", "7", "--max-address-connections=-1", "--max-address-calls", "8", "--open-rate", "9", "--client-rate", "10", "--address-rate", "11",
		"--trusted-proxies", "10.0.0.0/8, 192.0.2.1/32", "--answer-bytes", "12", "--address-answer-bytes", "13",
	})
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Limits; l.Connections != 7 || l.AddressConnections != -1 || l.AddressCalls != 8 || l.OpenRate != 9 || l.ClientRate != 10 || l.AddressRate != 11 || l.AnswerBytes != 12 || l.AddressAnswerBytes != 13 ||
		!slices.Equal(l.TrustedProxies, []string{"10.0.0.0/8", "192.0.2.1/32"}) {
		t.Errorf("%+v", l)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
