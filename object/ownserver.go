package object

// OwnServer is a FenceKeeper that may live elsewhere than the coordinator: where it says
// so, nodes go on serving durable objects while etcd is silent, unless they are told not
// to. Without it they do so only where they are told to.
type OwnServer interface {
	FenceKeeper
	// OwnServer says that the store runs on a server of its own, which all nodes share.
	OwnServer() bool
}
