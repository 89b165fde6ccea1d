import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryForever;

/** One of several programs that elect a leader with Curator: java App NAME HOST:PORT. */
public class App {
    public static void main(String[] words) throws Exception {
        String name = words[0];
        CuratorFramework client = CuratorFrameworkFactory.builder()
                .connectString(words[1])
                .sessionTimeoutMs(6000)
                .connectionTimeoutMs(5000)
                .retryPolicy(new RetryForever(200))
                .build();
        client.start();

        CuratorCache settings = CuratorCache.build(client, "/app/settings");
        settings.listenable().addListener(CuratorCacheListener.builder()
                .forCreates(node -> say(name + " sees the settings " + new String(node.getData())))
                .forChanges((old, node) -> say(name + " sees the settings " + new String(node.getData())))
                .build());
        settings.start();

        InterProcessMutex lock = new InterProcessMutex(client, "/app/lock");
        if (!lock.acquire(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the lock was not free");
        }
        client.create().orSetData().creatingParentsIfNeeded().forPath("/app/last", name.getBytes());
        lock.release();

        LeaderLatch latch = new LeaderLatch(client, "/app/leader", name);
        latch.addListener(new LeaderLatchListener() {
            @Override
            public void isLeader() {
                say(name + " leads");
            }

            @Override
            public void notLeader() {
                say(name + " leads no more");
            }
        });
        say(name + " (" + ProcessHandle.current().pid() + ") is a candidate");
        latch.start();
        new CountDownLatch(1).await();
    }

    private static synchronized void say(String words) {
        System.out.println(words);
    }
}
