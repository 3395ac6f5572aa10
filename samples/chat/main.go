// Command chat is a chat with rooms: objects that keep what was said, and a page.
package main

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/xiaonanln/goverse/goverseapi"
	chat_pb "github.com/xiaonanln/goverse/samples/chat/proto"
)

//go:embed web
var web embed.FS

func main() {
	goverseapi.RegisterObjectType(chat_pb.NewChatRoomType((*ChatRoom)(nil)))
	pages, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the folder is in the program
	}
	goverseapi.Main(goverseapi.WithPages(http.FileServerFS(pages)), goverseapi.WithInspector())
}
