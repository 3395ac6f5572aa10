package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// pages reads the file of a bbolt database (format version 2) and checks what bbolt
// takes for granted: every page is what its parent says, is referred to once, and
// holds its keys in order. bbolt checks the same when it opens the file, but on a
// goroutine of its own where a violation ends the process. Nothing here trusts a
// number that it has read.
type pages struct {
	file  io.ReaderAt
	meta  meta
	seen  map[uint64]bool
	visit visitor
}

// visitor is shown every key of every bucket.
type visitor func(bucket string, key, value []byte) error

// meta is one of the two heads of the file: the valid one that was written last
// counts.
type meta struct {
	pageSize uint64
	root     uint64 // page of the bucket of buckets
	freelist uint64
	high     uint64 // pages from here on are not used
	txid     uint64
}

const (
	headSize   = 16 // of a page: id, flags, count, overflow
	elemSize   = 16 // of an element, in a branch and in a leaf
	metaSize   = 64
	bucketSize = 16 // of a bucket's value: root, sequence

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = 1<<64 - 1

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketElem   = 0x01
)

var le = binary.LittleEndian // of every machine that etcd supports

// checkPages checks the whole file and shows visit what is in it.
func checkPages(file io.ReaderAt, size int64, visit visitor) error {
	m, err := readMeta(file)
	if err != nil {
		return err
	}
	if m.high < 2 || m.high > uint64(size)/m.pageSize {
		return fmt.Errorf("%d pages of %d bytes are in use, and the file has %d bytes", m.high, m.pageSize, size)
	}
	p := &pages{file: file, meta: m, seen: map[uint64]bool{}, visit: visit}
	if err := p.checkFreelist(); err != nil {
		return err
	}
	return p.bucket("", m.root)
}

// readMeta looks for the two heads: the first is at 0, the second a page behind it.
func readMeta(file io.ReaderAt) (meta, error) {
	first, err := metaAt(file, 0)
	if err == nil {
		if second, err := metaAt(file, int64(first.pageSize)); err == nil && second.txid > first.txid {
			return second, nil
		}
		return first, nil
	}
	for shift := range 15 { // the sizes of page that bbolt tries
		if second, err := metaAt(file, 1024<<shift); err == nil {
			return second, nil
		}
	}
	return meta{}, fmt.Errorf("not a database, or its heads are damaged: %w", err)
}

func metaAt(file io.ReaderAt, offset int64) (meta, error) {
	text := make([]byte, headSize+metaSize)
	if _, err := file.ReadAt(text, offset); err != nil {
		return meta{}, err
	}
	text = text[headSize:]
	sum := fnv.New64a()
	sum.Write(text[:metaSize-8])
	m := meta{
		pageSize: uint64(le.Uint32(text[8:])), root: le.Uint64(text[16:]), freelist: le.Uint64(text[32:]),
		high: le.Uint64(text[40:]), txid: le.Uint64(text[48:]),
	}
	if le.Uint32(text) != boltMagic || le.Uint32(text[4:]) != boltVersion || le.Uint64(text[56:]) != sum.Sum64() ||
		m.pageSize < 1024 || m.pageSize > 1024<<14 || m.pageSize&(m.pageSize-1) != 0 {
		return meta{}, errors.New("a head that is not valid")
	}
	return m, nil
}

// page is one page's bytes, its overflow included.
type page struct {
	flags uint16
	count int
	data  []byte
}

// read reads a page that nothing else has referred to.
func (p *pages) read(id uint64) (page, error) {
	if id < 2 || id >= p.meta.high {
		return page{}, fmt.Errorf("page %d: there is none: they go from 2 to %d", id, p.meta.high-1)
	}
	head := make([]byte, headSize)
	if _, err := p.file.ReadAt(head, int64(id*p.meta.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	overflow := uint64(le.Uint32(head[12:]))
	if self := le.Uint64(head); self != id || overflow >= p.meta.high-id {
		return page{}, fmt.Errorf("page %d: says that it is page %d and %d more", id, self, overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if p.seen[i] {
			return page{}, fmt.Errorf("page %d: referred to twice", i)
		}
		p.seen[i] = true
	}
	data := make([]byte, (overflow+1)*p.meta.pageSize)
	if _, err := p.file.ReadAt(data, int64(id*p.meta.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	return newPage(data), nil
}

func newPage(data []byte) page {
	return page{flags: le.Uint16(data[8:]), count: int(le.Uint16(data[10:])), data: data}
}

// checkFreelist checks the list of free pages, where one is stored.
func (p *pages) checkFreelist() error {
	if p.meta.freelist == noFreelist {
		return nil
	}
	list, err := p.read(p.meta.freelist)
	if err != nil {
		return err
	}
	count, room := uint64(list.count), uint64(len(list.data)-headSize)/8
	if count == 0xffff && room > 0 { // the true count follows
		count, room = le.Uint64(list.data[headSize:]), room-1
	}
	if list.flags != freelistPage || count > room {
		return fmt.Errorf("page %d: no list of free pages", p.meta.freelist)
	}
	return nil
}

// bucket checks the tree of one bucket; the name of the bucket of buckets is empty.
func (p *pages) bucket(name string, root uint64) error {
	return p.tree(name, root, nil, nil)
}

// tree checks the page id and all below it. Its keys must be at least low and below
// high; nil is no bound.
func (p *pages) tree(bucket string, id uint64, low, high []byte) error {
	node, err := p.read(id)
	if err != nil {
		return err
	}
	switch node.flags {
	case branchPage:
		return p.branch(bucket, id, node, low, high)
	case leafPage:
		return p.leaf(bucket, id, node, low, high)
	}
	return fmt.Errorf("page %d: neither branch nor leaf: %#x", id, node.flags)
}

func (p *pages) branch(bucket string, id uint64, node page, low, high []byte) error {
	if node.count == 0 {
		return fmt.Errorf("page %d: a branch without children", id)
	}
	keys, children := make([][]byte, node.count+1), make([]uint64, node.count)
	keys[node.count] = high
	for i := range node.count {
		elem, err := node.element(i)
		if err == nil {
			keys[i], err = node.slice(i, le.Uint32(elem), le.Uint32(elem[4:]))
		}
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		children[i] = le.Uint64(elem[8:])
	}
	if err := inOrder(keys[:node.count], low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for i, child := range children {
		if err := p.tree(bucket, child, keys[i], keys[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) leaf(bucket string, id uint64, node page, low, high []byte) error {
	keys := make([][]byte, node.count)
	for i := range node.count {
		elem, err := node.element(i)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		pair, err := node.slice(i, le.Uint32(elem[4:]), le.Uint32(elem[8:]), le.Uint32(elem[12:]))
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		size := le.Uint32(elem[8:])
		keys[i] = pair[:size]
		if err := p.pair(bucket, le.Uint32(elem), pair[:size], pair[size:]); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	if err := inOrder(keys, low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// pair is one key with its value, or with a bucket.
func (p *pages) pair(bucket string, flags uint32, key, value []byte) error {
	switch {
	case flags == 0 && bucket == "":
		return fmt.Errorf("%q is not a bucket", key)
	case flags == 0:
		return p.visit(bucket, key, value)
	case flags != bucketElem || bucket != "" || len(key) == 0:
		return fmt.Errorf("%q of bucket %q is neither a value nor a bucket of etcd's", key, bucket)
	case len(value) < bucketSize:
		return fmt.Errorf("bucket %q is cut short", key)
	}
	if root := le.Uint64(value); root != 0 {
		return p.bucket(string(key), root)
	}
	inline := value[bucketSize:] // a small bucket is a page within the value
	if len(inline) < headSize || newPage(inline).flags != leafPage {
		return fmt.Errorf("bucket %q is cut short", key)
	}
	return p.leaf(string(key), 0, newPage(inline), nil, nil)
}

// element is the i-th entry of the page's table.
func (n page) element(i int) ([]byte, error) {
	at := headSize + i*elemSize
	if at+elemSize > len(n.data) {
		return nil, fmt.Errorf("element %d of %d lies outside", i, n.count)
	}
	return n.data[at : at+elemSize], nil
}

// slice is what lies pos bytes behind the i-th element, as long as the sizes together.
func (n page) slice(i int, pos uint32, sizes ...uint32) ([]byte, error) {
	from := uint64(headSize+i*elemSize) + uint64(pos)
	to := from
	for _, size := range sizes {
		to += uint64(size)
	}
	if to > uint64(len(n.data)) {
		return nil, fmt.Errorf("the bytes of element %d lie outside", i)
	}
	return n.data[from:to], nil
}

func inOrder(keys [][]byte, low, high []byte) error {
	for i, key := range keys {
		switch {
		case i == 0 && low != nil && bytes.Compare(key, low) < 0, i > 0 && bytes.Compare(key, keys[i-1]) <= 0:
			return fmt.Errorf("key %d is not behind the one before", i)
		case high != nil && bytes.Compare(key, high) >= 0:
			return fmt.Errorf("key %d belongs to another page", i)
		}
	}
	return nil
}
