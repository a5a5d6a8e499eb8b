module idiolectd.example/session

go 1.19
