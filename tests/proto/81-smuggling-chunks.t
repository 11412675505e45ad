# Chunked bodies written as some servers would read them and others not.

== a chunk line that ends in LF alone
> POST /echo HTTP/1.1
> Host: localhost
> Transfer-Encoding: chunked
>
> 3\nabc
> 0
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== a chunk longer than it says
> POST /echo HTTP/1.1
> Host: localhost
> Transfer-Encoding: chunked
>
> 3
> abcd
> 0
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== a chunk size that overflows 64 bits
> POST /echo HTTP/1.1
> Host: localhost
> Transfer-Encoding: chunked
>
> 10000000000000003
> abc
> 0
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request
