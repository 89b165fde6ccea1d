#!/bin/sh
# Runs App.java with Debian's Curator: apt-get install openjdk-17-jdk libcurator-recipes-java
# ./run.sh NAME HOST:PORT
jars=/usr/share/java
path=.
for jar in curator-client curator-framework curator-recipes zookeeper zookeeper-jute guava slf4j-api slf4j-nop \
    metrics-core snappy-java netty-handler netty-transport netty-common netty-buffer netty-codec netty-resolver; do
    path="$path:$jars/$jar.jar"
done
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$path" App.java "$@"
