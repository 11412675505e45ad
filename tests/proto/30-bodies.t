# Request bodies: their maximum, Expect, content codings.

== nothing to wait for: no 100 Continue
> POST /echo HTTP/1.1
> Host: localhost
> Expect: 100-continue
> Content-Length: 0
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 0
< Connection: close
<

== an answer that does not need the body: the client need not send it
> POST /a HTTP/1.1
> Host: localhost
> Expect: 100-continue
> Content-Length: 3
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== a body as large as allowed
> POST /small HTTP/1.1
> Host: localhost
> Content-Length: 4
> Connection: close
>
>| abcd
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 4
< Connection: close
<
<| abcd

== one byte more, by its length
> POST /small HTTP/1.1
> Host: localhost
> Content-Length: 5
>
>| abcde
< HTTP/1.1 413 Content Too Large
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
<
<| request_too_large

== one byte more, found while reading
> POST /small HTTP/1.1
> Host: localhost
> Transfer-Encoding: chunked
>
> 3
> abc
> 2
> de
> 0
>
< HTTP/1.1 413 Content Too Large
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
<
<| request_too_large

== an unknown content coding
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: br
> Content-Length: 1
>
>| x
< HTTP/1.1 415 Unsupported Media Type
< Content-Type: text/plain
< Content-Length: 22
< Connection: close
<
<| unsupported_media_type

== a body that is not what its coding says
> POST /echo HTTP/1.1
> Host: localhost
> Content-Encoding: gzip
> Content-Length: 4
>
>| nope
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request
