// Package secure is what proves who somebody is: certificates and keys in files that
// may change while the process runs (Files), and the secret that the processes of a
// cluster share (Secret).
package secure
