package main

import (
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	in := `go: downloading x v1
{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestGood/part","Elapsed":14}
{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":14.25}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"=== RUN   TestSkip\n"}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"    p_test.go:9: no chromium here\n"}
{"Action":"output","Package":"p","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestSkip"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p","Elapsed":0.1}
{"Action":"output","Package":"q","Test":"TestBad","Output":"    q_test.go:3: wrong\n"}
{"Action":"fail","Package":"q","Test":"TestBad","Elapsed":20}
{"Action":"output","Package":"q","Test":"TestStuck","Output":"=== RUN   TestStuck\n"}
{"Action":"output","Package":"q","Output":"panic: timed out\n"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t1s\n"}
{"Action":"fail","Package":"q"}
{"ImportPath":"r","Action":"build-output","Output":"r.go:1: syntax error\n"}
{"ImportPath":"r","Action":"build-fail"}
{"Action":"output","Package":"s","Output":"?   \ts\t[no test files]\n"}
{"Action":"skip","Package":"s"}
`
	want := `go: downloading x v1
ok  	p	0.1s
    q_test.go:3: wrong
=== RUN   TestStuck
panic: timed out
FAIL	q	1s
r.go:1: syntax error
?   	s	[no test files]
slow:   20.0 s q TestBad
slow:   14.2 s p TestGood
skipped: p TestSkip: p_test.go:9: no chromium here
2 passed, 2 failed, 1 skipped
`
	var out strings.Builder
	r := newReport(&out, 10*time.Second)
	if err := r.read(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	if r.close(); out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
