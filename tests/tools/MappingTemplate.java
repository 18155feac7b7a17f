import com.jayway.jsonpath.Configuration;
import com.jayway.jsonpath.JsonPath;
import com.jayway.jsonpath.PathNotFoundException;
import com.jayway.jsonpath.spi.json.JsonProvider;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URLEncoder;
import java.util.HexFormat;
import java.util.Map;
import org.apache.commons.lang.StringEscapeUtils;
import org.apache.velocity.VelocityContext;
import org.apache.velocity.app.VelocityEngine;
import org.apache.velocity.runtime.RuntimeConstants;
import org.apache.velocity.runtime.log.NullLogChute;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * Mapping templates as API Gateway renders them: Apache Velocity itself, and beside it $input, $util and $context as far
 * as our templates use them, with the libraries that AWS's documentation describes by what they do.
 *
 * <p>Each line of standard input is one job: template, body and $context (JSON), each in hexadecimal, with blanks
 * between them. It is answered with a line: what was rendered and $context.responseOverride (JSON), in the same way; or "!" and
 * the error.
 */
public class MappingTemplate {
    public record Input(String body) {
        public String getBody() {
            return body;
        }

        public Object path(String path) {
            try {
                return JsonPath.read(body, path);
            } catch (PathNotFoundException error) {
                return null;
            }
        }
    }

    public static class Util {
        public String urlEncode(String text) {
            return URLEncoder.encode(text, UTF_8);
        }

        public String escapeJavaScript(String text) {
            return StringEscapeUtils.escapeJavaScript(text);
        }
    }

    public static void main(String[] args) throws Exception {
        VelocityEngine engine = new VelocityEngine();
        engine.setProperty(RuntimeConstants.RUNTIME_LOG_LOGSYSTEM_CLASS, NullLogChute.class.getName());
        engine.init();
        PrintStream out = new PrintStream(System.out, true, UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                out.println(answer(engine, line.split(" ", -1)));
            } catch (Exception error) {
                out.println("! " + encode(error.toString()));
            }
        }
    }

    private static String answer(VelocityEngine engine, String[] job) throws Exception {
        JsonProvider json = Configuration.defaultConfiguration().jsonProvider();
        Map<?, ?> context = (Map<?, ?>) json.parse(decode(job[2]));
        VelocityContext variables = new VelocityContext();
        variables.put("input", new Input(decode(job[1])));
        variables.put("util", new Util());
        variables.put("context", context);
        StringWriter rendered = new StringWriter();
        engine.evaluate(variables, rendered, "mapping template", decode(job[0]));
        return encode(rendered.toString()) + " " + encode(json.toJson(context.get("responseOverride")));
    }

    private static String decode(String hex) {
        return new String(HexFormat.of().parseHex(hex), UTF_8);
    }

    private static String encode(String text) {
        return HexFormat.of().formatHex(text.getBytes(UTF_8));
    }
}
